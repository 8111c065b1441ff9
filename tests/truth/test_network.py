"""Communication-bound runs over a real, shaped link between two network namespaces."""

import subprocess
from pathlib import Path

import pytest

from perfkit.analyzers.result import Analysis
from tests.truth.harness import Ended, run_on_two_nodes, two_nodes, undisturbed

pytestmark = [pytest.mark.real, pytest.mark.needs_root, pytest.mark.needs_tc]

RATE_BITS_PER_S = 200e6
WIRE_SHARE = 1448 / 1514  # of an Ethernet frame that TCP over IPv4 with timestamps can use


def expected_ms(size_bytes: int) -> float:
    """Return what the link alone needs: with two ranks each sends and receives S bytes."""
    return size_bytes * 8 / (RATE_BITS_PER_S * WIRE_SHARE) * 1e3


@pytest.fixture(scope="module")
def slow_link(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One all-reduce of 4 MiB a step over 200 Mbit/s, hardly any compute."""
    folder = tmp_path_factory.mktemp("link")
    flags = ("--width=1024", "--layers=1", "--batch-size=1")
    with two_nodes("200mbit") as nodes:
        return undisturbed(folder, lambda attempt: run_on_two_nodes(attempt, nodes, *flags))


@pytest.fixture(scope="module")
def analysis(slow_link: Ended) -> Analysis:
    """What perfkit makes of the run that both nodes wrote into one folder."""
    assert slow_link.statuses == (0, 0), slow_link.stderr
    return slow_link.analyze()


def test_slow_link_is_communication_bound(analysis: Analysis) -> None:
    assert analysis.verdict.label == "communication", analysis.verdict.sentence
    assert (analysis.world.size, analysis.world.nodes) == (2, 2)
    assert analysis.budget.rollup["communication"] > 0.8


def test_transfer_time_is_bytes_over_bandwidth(analysis: Analysis) -> None:
    (row,) = (c for c in analysis.collectives if c.name == "all_reduce")
    assert (row.bytes, row.count, row.ranks) == (1024 * 1024 * 4, 1.0, 2)
    assert row.transfer_ms == pytest.approx(expected_ms(1024 * 1024 * 4), rel=0.15)
    assert row.busbw_gbyte_per_s is not None
    assert 0.85 < row.busbw_gbyte_per_s * 8e9 / (RATE_BITS_PER_S * WIRE_SHARE) <= 1.02


def test_no_rank_is_blamed_for_a_slow_link(analysis: Analysis) -> None:
    assert analysis.stragglers == ()
    assert sum(b.ms for b in analysis.verdict.blame) < 0.1 * analysis.budget.per_rank[0].window_ms


def test_slow_loader_behind_a_slow_link_is_found_without_a_shared_folder(tmp_path: Path) -> None:
    # 2.25 MiB take 99 ms on the link; rank 1 loads for 200 ms
    flags = ["--width=768", "--layers=1", "--batch-size=1", "--steps=22"]
    flags += ["--loader-ms=200", "--fault-ranks", "1"]
    with two_nodes("200mbit") as nodes:
        ended = undisturbed(
            tmp_path, lambda to: run_on_two_nodes(to, nodes, *flags, shared_folder=False)
        )
    assert len(ended.runs) == 2
    analysis = ended.analyze()
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (1, "input_wait")
    assert worst.ms == pytest.approx(200 / 2, rel=0.1)
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    (row,) = (c for c in analysis.collectives if c.name == "all_reduce")
    assert row.transfer_ms == pytest.approx(expected_ms(768 * 768 * 4), rel=0.15)


def test_namespaces_are_removed() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), two_nodes() as nodes:
        raise RuntimeError("on purpose")
    assert not {node.namespace for node in nodes} & namespaces()


def test_namespaces_of_a_killed_run_are_removed_by_the_next() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    orphan = f"pk{dead.pid}x0a"
    subprocess.run(["ip", "netns", "add", orphan], check=True)
    with two_nodes():
        assert orphan not in namespaces()


def namespaces() -> set[str]:
    """The names of the network namespaces that there are."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())

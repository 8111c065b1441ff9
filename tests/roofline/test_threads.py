"""Ceilings of a CPU by threads: which a rank is held against, and the peak that ranks share."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from perfkit.roofline import ceilings as ceilings_file
from perfkit.roofline.ceilings import Ceilings, OtherThreads, Roofs, threads_in_words
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.roofline.threads import ceilings_of, not_measured, shared_peak
from perfkit.trace.model import RankRecord, RankTrace, Run
from tests.builders import op, rank_trace, run_of, step
from tests.roofline.machines import ceilings
from tests.roofline.shapes import shape

CUBE = shape([(1000, 1000), (1000, 1000)], ["float", "float"])


def measured(own: int, others: Mapping[int, float] | None = None) -> Ceilings:
    """Ceilings of 1 TFLOP/s with `own` threads, and of these rates with others."""
    found = ceilings()
    return replace(
        found,
        machine=replace(found.machine, threads=own),
        other_threads=tuple(
            OtherThreads(threads=count, ceilings=ceilings(matrix={"fp32": rate}).ceilings)
            for count, rate in (others or {}).items()
        ),
    )


def ran(
    threads: list[int | None], cpus: int, machines: list[str]
) -> tuple[Run, dict[str, list[int]]]:
    """A run whose ranks recorded these threads on a machine of so many processors."""
    facts = [{"threads": t, "cpus_available": cpus} if t else {} for t in threads]
    records = [SimpleNamespace(rank=k, facts=f) for k, f in enumerate(facts)]
    placed: dict[str, list[int]] = {}
    for rank, machine in enumerate(machines):
        placed.setdefault(machine, []).append(rank)
    return cast(Run, SimpleNamespace(ranks=records, path=Path())), placed


@pytest.mark.parametrize(
    ("threads", "cpus", "machines", "own", "expected"),
    [
        ([1, 1], 2, ["a", "a"], 1, 2.0),  # two ranks of a thread: twice a thread's peak
        ([1, 1], 2, ["a", "a"], 2, 1.0),  # the same: all of the machine
        ([1], 2, ["a"], 2, 0.5),
        ([2, 2, 2, 2], 2, ["a"] * 4, 2, 1.0),  # more threads than processors
        ([4, 4], 4, ["a", "b"], 4, 2.0),
        ([None, None], 2, ["a", "a"], 1, 1),  # nothing recorded: a machine is a device
    ],
)
def test_the_devices_are_the_threads_that_ran(
    threads: list[int | None], cpus: int, machines: list[str], own: int, expected: float
) -> None:
    run, placed = ran(threads, cpus, machines)
    assert shared_peak(run, placed, measured(own)).devices == pytest.approx(expected)


def test_a_machine_measured_with_all_threads_is_one_device() -> None:
    """Two threads together reach less than twice one: what was measured stands before reckoning."""
    run, placed = ran([1, 1], 2, ["a", "a"])
    peak = shared_peak(run, placed, measured(1, {2: 1.5e12}))
    assert (peak.devices, peak.note) == (1, "")
    roof = Roofs(peak.ceilings).matrix("fp32")
    assert roof is not None and roof.value == 1.5e12
    alone = shared_peak(run, placed, measured(1))
    assert alone.note == "counted as 2 times that, for 2 threads"


def test_without_ceilings_a_machine_is_a_device() -> None:
    run, placed = ran([1, 1], 2, ["a", "a"])
    assert shared_peak(run, placed, None).devices == 1


def test_a_file_gives_the_ceilings_of_each_number_of_threads(tmp_path: Path) -> None:
    path = tmp_path / "ceilings.json"
    path.write_bytes(ceilings_file.encode(measured(4, {1: 3e11})))
    found = ceilings_file.read(path)
    assert found.threads == (4, 1)
    for count, rate in ((4, 1e12), (1, 3e11), (None, 1e12)):
        roof = Roofs(found.of_threads(count)).matrix("fp32")
        assert roof is not None and roof.value == rate
        assert roof.source == f"measured: made up, {threads_in_words(count or 4)}"
    assert Roofs(found.of_threads(2)).matrix("fp32") is None
    assert Roofs(found.of_threads(2)).memory() is None
    device = ceilings(device_kind="cuda")
    assert device.of_threads(7) is device


def test_storage_and_network_are_of_any_number_of_threads() -> None:
    found = ceilings(network={1: 1e9})
    (matrix, *_) = found.ceilings
    storage = replace(matrix, quantity="storage_random", precision="")
    whole = replace(found, ceilings=(*found.ceilings, storage))
    assert whole.of_threads(9).ceilings == (storage,)
    assert whole.of_threads(9).network == whole.network


def test_the_command_that_would_tell_measures_what_the_file_holds_too() -> None:
    run, _ = ran([3, 3], 4, ["a", "a"])
    found = replace(measured(4, {1: 1.0}), network=ceilings(network={1: 1e9}).network)
    told = not_measured(run, [0, 1], found)
    assert told is not None
    assert (
        told.why == "a rank computed with 3 threads, and the ceilings are of 1 thread and 4 threads"
    )
    command = "perfkit ceilings --threads 1,3,4 --ranks 2 --quick --out RUN/ceilings.json"
    assert told.remedy == f"on that machine: {command}"
    assert not_measured(run, [0, 1], measured(3)) is None
    assert not_measured(run, [0, 1], None) is None
    assert ceilings_of(None, {}, 0) is None


def computed(threads: int, held: Ceilings) -> RunRoofline:
    """Two GFLOP in 10 ms on so many threads, held against these ceilings."""
    trace = rank_trace(
        step(0, at_ms=0, ms=20), op("aten::mm", at_ms=0, ms=10, shape=CUBE), device_kind="cpu"
    )
    run, load = run_of(replace(trace, has_shapes=True))
    facts: dict[str, object] = {"threads": threads, "cpus_available": 2}
    records = tuple(replace(record, facts=facts) for record in run.ranks)

    def loaded(record: RankRecord) -> RankTrace:
        return load(record)

    return roofline_of(replace(run, ranks=records), loaded, held)


def test_an_operator_is_held_against_its_own_number_of_threads() -> None:
    """0.2 TFLOP/s are all of a thread's 0.2, and a fifth of what two threads reach."""
    found = computed(1, measured(2, {1: 2e11}))
    assert found.points[0].attained == pytest.approx(1.0)
    assert found.ceilings[0].value == 2e11
    assert "1 thread" in found.ceilings[0].source
    assert computed(2, measured(2, {1: 2e11})).points[0].attained == pytest.approx(0.2)
    assert not [c for c in found.cannot_tell if "roof" in c.claim]


def test_of_other_threads_no_share_is_told_and_utilization_is() -> None:
    found = computed(1, measured(2))
    (point,) = found.points
    assert point.attained is None and point.bound_s is None
    (told,) = [c for c in found.cannot_tell if c.claim == "how near operators come to their roof"]
    assert "--threads 1,2" in told.remedy
    shares = {entry.convention: entry for entry in found.utilization}
    assert shares["executed"].share == pytest.approx(2e9 / 20e-3 / 0.5e12)  # half of the threads
    assert "counted as 0.5 times that, for 1 thread" in shares["executed"].peak_source


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "--threads 0"),
        ("-1", "--threads -1"),
        ("two", "--threads two"),
        ("1,1", "--threads 1,1"),
        ("4096", "processors"),
    ],
)
def test_threads_that_cannot_be_are_one_line(given: str, message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "perfkit", "ceilings", f"--threads={given}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

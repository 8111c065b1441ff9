"""A DDP training over a 1 Gbit/s link between two network namespaces, under its network roof."""

import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from perfkit.roofline import ceilings
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.trace import run as run_folder
from tests.truth.harness import (
    PERFKIT,
    PORT,
    ROOT,
    TORCHRUN,
    Ended,
    Node,
    run_on_two_nodes,
    two_nodes,
    undisturbed,
)

pytestmark = [pytest.mark.real, pytest.mark.needs_root, pytest.mark.needs_tc]

LINK_BYTES_PER_S = 1e9 / 8
TOLERANCE = 0.05


def measure(nodes: Sequence[Node], out: Path) -> Ceilings:
    """Run `perfkit ceilings` under torchrun, one process on each node."""
    started = []
    for number, node in enumerate(nodes):
        launch = [*TORCHRUN, f"--nnodes={len(nodes)}", f"--node-rank={number}"]
        launch += ["--nproc-per-node=1", f"--master-addr={nodes[0].address}"]
        launch += [f"--master-port={PORT + 1}", "-m", PERFKIT[-1], "ceilings", "--quick"]
        command = [*node.prefix, *launch, "--out", str(out)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))
    for process in started:
        assert process.wait(timeout=280) == 0
    return ceilings.read(out)


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ceilings, Ended]:
    folder = tmp_path_factory.mktemp("gigabit")
    flags = ("--width=1024", "--layers=2", "--batch-size=64", "--repeats=4")
    with two_nodes("1gbit", burst="256kb") as nodes:
        found = measure(nodes, folder / "ceilings.json")
        # Bounds hold on a busy machine too: compute is measured in the run itself.
        ended = undisturbed(
            folder, lambda attempt: run_on_two_nodes(attempt, nodes, *flags), limit=0.4
        )
    return found, ended


@pytest.fixture(scope="module")
def roofline(measured_run: tuple[Ceilings, Ended]) -> RunRoofline:
    found, ended = measured_run
    run = run_folder.open_run(ended.runs)
    return roofline_of(run, partial(run_folder.load_rank, cache=None), found)


def test_the_link_is_measured_between_nodes(measured_run: tuple[Ceilings, Ended]) -> None:
    rows = {row.collective: row for row in measured_run[0].network}
    assert rows["all_reduce"].nodes == rows["all_reduce"].ranks == 2
    assert 0.8 < rows["all_reduce"].bus_bytes_per_s / LINK_BYTES_PER_S <= 1.02


def test_the_run_sits_under_the_network_roof(roofline: RunRoofline) -> None:
    for step in roofline.ranks:
        (level,) = step.levels
        assert level.name == "inter-node"
        assert level.bus_bytes == pytest.approx(2 * 1024 * 1024 * 4, rel=0.01)
        assert level.bandwidth_bytes_per_s is not None and level.intensity is not None
        assert step.executed_flop / step.step_s <= level.intensity * level.bandwidth_bytes_per_s
        (point,) = step.network
        assert point.attained is not None and point.attained <= 1 + TOLERANCE


def test_the_step_is_not_below_what_the_ceilings_allow(roofline: RunRoofline) -> None:
    for step in roofline.ranks:
        assert step.step_s >= step.ceilings.lowest_s * (1 - TOLERANCE)


def test_the_step_lies_between_full_overlap_and_none(
    roofline: RunRoofline, measured_run: tuple[Ceilings, Ended]
) -> None:
    """max(t_c, t_net) <= step <= t_c + t_net + the step's io, host and comm_wait."""
    budgets = {row.rank: row for row in measured_run[1].analyze().budget.per_rank}
    for step in roofline.ranks:
        pair, budget = step.measured, budgets[step.rank]
        assert pair.highest_s is not None and pair.overlap is not None
        rest = ("memcpy", "checkpoint", "input_wait", "comm_wait", "other")
        spent = {name: entry.ms for name, entry in budget.classes.items() if entry is not None}
        beside_ms = sum(ms for name, ms in spent.items() if name in rest or name[:5] == "host_")
        assert pair.lowest_s * (1 - TOLERANCE) <= step.step_s
        assert step.step_s <= (pair.highest_s + beside_ms / 1e3) * (1 + TOLERANCE)

"""The GPT example over 1 Gbit/s between two network namespaces, under its network roof.

Bounds hold on a busy machine too: computing is measured in the run itself.
"""

import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import decode
from perfkit.analyzers.result import Analysis
from perfkit.roofline import ceilings
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.trace import run as run_folder
from tests.truth.harness import PERFKIT, PORT, ROOT, TORCHRUN, Node, profiled, two_nodes

pytestmark = [pytest.mark.real, pytest.mark.needs_root, pytest.mark.needs_tc]

LINK_BYTES_PER_S = 1e9 / 8
TOLERANCE = 0.05
FLAGS = ("--steps=18", "--batch-size=1", "--context=128", "--layers=4", "--heads=4", "--width=256")
PARAMETERS = 3_207_680
"""Of the example with these flags, as its model counts them."""


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


def train(nodes: Sequence[Node], run: Path) -> Analysis:
    """Profile the example, one rank on each node, as its README says; analyse the run."""
    started = []
    for number, node in enumerate(nodes):
        launch = [*TORCHRUN, f"--nnodes={len(nodes)}", f"--node-rank={number}"]
        launch += ["--nproc-per-node=1", f"--master-addr={nodes[0].address}"]
        launch += [f"--master-port={PORT}", "examples/train_gpt_ddp.py", *FLAGS]
        command = [*node.prefix, *profiled(launch, run, (8, 15))]
        started.append(
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        )
    for process in started:
        assert process.wait(timeout=280) == 0
    done = subprocess.run(
        [*PERFKIT, "analyze", str(run), "--json"], cwd=ROOT, capture_output=True, check=True
    )
    return decode(done.stdout)


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ceilings, Analysis, Path]:
    folder = tmp_path_factory.mktemp("gigabit")
    with two_nodes("1gbit", burst="256kb") as nodes:
        found = measure(nodes, folder / "ceilings.json")
        analysis = train(nodes, folder / "run")
    return found, analysis, folder / "run"


@pytest.fixture(scope="module")
def roofline(measured_run: tuple[Ceilings, Analysis, Path]) -> RunRoofline:
    found, _, path = measured_run
    run = run_folder.open_run([path])
    return roofline_of(run, partial(run_folder.load_rank, cache=None), found)


def test_the_link_is_measured_between_nodes(measured_run: tuple[Ceilings, Analysis, Path]) -> None:
    rows = {row.collective: row for row in measured_run[0].network}
    assert rows["all_reduce"].nodes == rows["all_reduce"].ranks == 2
    assert 0.8 < rows["all_reduce"].bus_bytes_per_s / LINK_BYTES_PER_S <= 1.02


def test_the_run_sits_under_the_network_roof(roofline: RunRoofline) -> None:
    for step in roofline.ranks:
        (level,) = step.levels
        assert level.name == "inter-node"
        assert level.bus_bytes == pytest.approx(4 * PARAMETERS, rel=0.01)  # 2 (n-1)/n N b
        assert level.bandwidth_bytes_per_s is not None and level.intensity is not None
        assert step.executed_flop / step.step_s <= level.intensity * level.bandwidth_bytes_per_s
        (point,) = step.network
        assert point.attained is not None and point.attained <= 1 + TOLERANCE


def test_the_step_is_not_below_what_the_ceilings_allow(roofline: RunRoofline) -> None:
    for step in roofline.ranks:
        assert step.step_s >= step.ceilings.lowest_s * (1 - TOLERANCE)


def test_the_step_lies_between_full_overlap_and_none(
    roofline: RunRoofline, measured_run: tuple[Ceilings, Analysis, Path]
) -> None:
    """max(t_c, t_net) <= step <= t_c + t_net + the step's io, host and comm_wait."""
    budgets = {row.rank: row for row in measured_run[1].budget.per_rank}
    for step in roofline.ranks:
        pair, budget = step.measured, budgets[step.rank]
        assert pair.highest_s is not None and pair.overlap is not None
        rest = ("memcpy", "checkpoint", "input_wait", "comm_wait", "other")
        spent = {name: entry.ms for name, entry in budget.classes.items() if entry is not None}
        beside_ms = sum(ms for name, ms in spent.items() if name in rest or name[:5] == "host_")
        assert pair.lowest_s * (1 - TOLERANCE) <= step.step_s
        assert step.step_s <= (pair.highest_s + beside_ms / 1e3) * (1 + TOLERANCE)


def test_the_closed_form_says_how_many_tokens_would_hide_the_link(roofline: RunRoofline) -> None:
    """One sample of 128 tokens is far too little for 1 Gbit/s, however many nodes there are."""
    (form,) = roofline.closed_forms
    assert (form.kind, form.level, form.ranks) == ("ddp", "inter-node", 2)
    assert (form.quantity, form.now) == ("tokens per rank and step", 128)
    (row,) = roofline.network
    assert form.critical is not None and row.critical_tokens == pytest.approx(form.critical)
    assert form.critical > form.now and row.work_factor is not None and row.work_factor > 1
    # The closed form leaves attention and what else is computed out, the captured FLOP do not.
    assert form.critical / form.now == pytest.approx(row.work_factor, rel=0.15)
    assert form.critical_doubled == pytest.approx(1.5 * form.critical)
    assert form.limit == pytest.approx(2 * form.critical)
    assert {step.limit for step in roofline.ranks} == {"inter-node"}


def test_the_architecture_of_the_example_is_recognised(roofline: RunRoofline) -> None:
    sizes = roofline.transformer
    assert sizes is not None
    assert (sizes.layers, sizes.heads, sizes.head_size, sizes.sequence) == (4, 4, 64, 128)
    assert (sizes.parameters, sizes.tokens) == (PARAMETERS, 128)
    conventions = {entry.convention for entry in roofline.utilization}
    assert {"executed", "operators", "6N", "palm", "megatron-causal"} <= conventions

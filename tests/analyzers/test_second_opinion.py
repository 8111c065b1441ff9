"""Critical path and efficiency of runs whose truth is known, and what a disagreement does."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.graph import build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_replay import Efficiency, SecondOpinion
from perfkit.analyzers.second_opinion import second_opinion
from perfkit.analyzers.verdict import Decision, heed
from perfkit.trace.model import RankTrace
from tests.analyzers.test_slow_loader import cpu_rank, gpu_rank
from tests.builders import (
    Item,
    StepItem,
    comm_call,
    gloo,
    input_wait,
    op,
    rank_trace,
    run_of,
    step,
)


def analysed(*traces: RankTrace) -> Analysis:
    run, load = run_of(*traces)
    return analyze(run, load)


def waiting_rank(rank: int, loads: Sequence[float], computes: Sequence[float]) -> RankTrace:
    """A CPU rank that fetches, computes, waits for a blocking all-reduce until 90 ms, updates.

    One entry a step of 100 ms; the transfer itself takes the 10 ms before 90.
    """
    items: list[Item | StepItem] = []
    for k, (load, compute) in enumerate(zip(loads, computes, strict=True)):
        t = 100.0 * k
        call = t + load + compute
        items += [
            step(k, at_ms=t, ms=100),
            input_wait(at_ms=t, ms=load),
            op("aten::mm", at_ms=t + load, ms=compute),
            comm_call(at_ms=call, ms=CALL_MS),
            gloo("all_reduce", at_ms=call + CALL_MS, ms=t + 90 - call - CALL_MS, sequence=k + 1),
            op("aten::add_", at_ms=t + 90, ms=10),
        ]
    return rank_trace(*items, rank=rank, world_size=2, device_kind="cpu")


CALL_MS = 0.05
STEPS = 12
BUSY = 80 - CALL_MS  # until the transfer begins at 80 ms


def slow_loader() -> tuple[RankTrace, RankTrace]:
    """Rank 1 loads for 60 ms, rank 0 for 1 ms; both compute the same."""
    compute = [BUSY - 60] * STEPS
    return waiting_rank(0, [1.0] * STEPS, compute), waiting_rank(1, [60.0] * STEPS, compute)


def in_turns() -> tuple[RankTrace, RankTrace]:
    """In even steps rank 0 computes for 80 ms and rank 1 for 40, in odd ones the other way."""
    first = [BUSY if k % 2 == 0 else 40.0 for k in range(STEPS)]
    second = [BUSY if k % 2 == 1 else 40.0 for k in range(STEPS)]
    none = [0.0] * STEPS
    return waiting_rank(0, none, first), waiting_rank(1, none, second)


def test_a_slow_loader_is_on_the_critical_path_of_its_rank() -> None:
    analysis = analysed(*slow_loader())
    second = analysis.second_opinion
    assert second is not None and second.refused == ""
    assert second.replay_error == pytest.approx(0.0, abs=0.001)
    assert len(second.steps) >= 2
    assert second.shares["input_wait"] == pytest.approx(0.60, abs=0.01)
    assert second.shares["comm_transfer"] == pytest.approx(0.10, abs=0.01)
    assert second.shares["compute"] == pytest.approx(0.30, abs=0.01)
    assert sum(second.rollup.values()) == pytest.approx(1.0)
    assert second.ranks["1"] > 0.8
    assert (second.dominant, second.agrees) == ("io", True)
    assert analysis.verdict.label == "io"


def test_waiting_in_turns_is_compute_on_the_path() -> None:
    second = analysed(*in_turns()).second_opinion
    assert second is not None
    assert second.rollup["compute"] == pytest.approx(0.90, abs=0.01)
    assert second.agrees is True
    assert second.ranks["0"] == pytest.approx(0.5, abs=0.1)


def test_a_path_of_unrecorded_host_time_is_no_opinion() -> None:
    """The host launches each kernel as it starts: between the launches nothing is recorded."""
    second = analysed(*(gpu_rank(r, slow=r == 1) for r in (0, 1))).second_opinion
    assert second is not None and second.agrees is None and second.shares == {}
    assert "in which nothing was recorded" in second.refused


def test_missing_ranks_withhold_the_second_opinion_and_say_so() -> None:
    second = analysed(cpu_rank(0, slow=False)).second_opinion
    assert second is not None
    assert second.agrees is None and second.shares == {}
    assert "1 of 2 ranks have no trace here" in second.refused


def test_one_step_is_too_few() -> None:
    second = analysed(*(cpu_rank(r, slow=False, steps=1) for r in (0, 1))).second_opinion
    assert second is not None and "without a second one" in second.refused


def test_different_steps_are_refused() -> None:
    second = analysed(cpu_rank(0, slow=False, steps=12), cpu_rank(1, slow=False, steps=9))
    assert second.second_opinion is not None
    assert "different steps" in second.second_opinion.refused


def test_it_is_the_same_path_as_that_of_whatif() -> None:
    run, load = run_of(*slow_loader())
    graph = build_graph(run, load)
    assert not isinstance(graph, Refusal)
    assert analyze(run, load).second_opinion == second_opinion(graph, "io")


SURE = Decision(
    label="compute",
    dominant="compute",
    margin=0.4,
    confidence=1.0,
    shares={"compute": 0.6, "host": 0.2, "communication": 0.1, "io": 0.1},
)
HOST_PATH = SecondOpinion(
    rollup={"compute": 0.1, "host": 0.9, "communication": 0.0, "io": 0.0},
    dominant="host",
    agrees=False,
)


def test_a_disagreement_makes_the_label_mixed() -> None:
    heeded = heed(SURE, HOST_PATH)
    assert (heeded.label, heeded.mixed_of, heeded.reason) == (
        "mixed",
        ("compute", "host"),
        "second_opinion",
    )
    assert heeded.path_share == 0.9
    assert heeded.shares == SURE.shares


def test_what_agrees_or_cannot_be_told_changes_nothing() -> None:
    assert heed(SURE, replace_opinion(agrees=True)) == SURE
    assert heed(SURE, replace_opinion(agrees=None)) == SURE
    mixed = replace(SURE, label="mixed", mixed_of=("compute", "io"))
    assert heed(mixed, HOST_PATH) == mixed
    vague = replace(SURE, label="undetermined")
    assert heed(vague, HOST_PATH) == vague


def replace_opinion(*, agrees: bool | None) -> SecondOpinion:
    return SecondOpinion(rollup=HOST_PATH.rollup, dominant="host", agrees=agrees)


def tree_of(*traces: RankTrace) -> tuple[Efficiency, dict[str, float | None]]:
    tree = analysed(*traces).efficiency
    assert tree is not None
    return tree, {factor.name: factor.value for factor in tree.factors}


def test_the_efficiency_tree_multiplies_and_reads() -> None:
    """Both ranks compute 30 of 100 ms; rank 1 loads for 60; a transfer takes 10."""
    tree, value = tree_of(*slow_loader())
    assert tree.split == ""
    assert tree.parallel == pytest.approx(0.30, abs=0.001)
    assert value["load_balance"] == pytest.approx(1.0)
    assert value["io"] == pytest.approx(30 / 90, abs=0.001)
    assert value["communication"] == pytest.approx(0.90, abs=0.001)
    assert value["transfer"] == pytest.approx(0.90, abs=0.01)
    assert value["serialisation"] == pytest.approx(1.0, abs=0.01)
    parts = [value[n] for n in ("load_balance", "orchestration", "io", "communication")]
    assert math.prod(p for p in parts if p is not None) == pytest.approx(tree.parallel)
    reading = {factor.name: factor.reading for factor in tree.factors}
    assert (
        reading["io"]
        == "of computing, host work, input, copies and checkpoints 33% is the first two"
    )
    assert reading["load_balance"].endswith("(acceptable)")


def test_waits_in_turns_are_serialisation() -> None:
    """Each rank works 70 ms a step on average; on an ideal network a step still takes 90."""
    tree, value = tree_of(*in_turns())
    assert tree.split == ""
    assert value["communication"] == pytest.approx(0.70, abs=0.005)
    assert value["transfer"] == pytest.approx(0.90, abs=0.005)
    assert value["serialisation"] == pytest.approx(0.70 / 0.90, abs=0.01)


def test_without_a_replay_communication_is_not_split() -> None:
    tree, value = tree_of(cpu_rank(0, slow=False))
    assert value["serialisation"] is None and value["transfer"] is None
    assert value["communication"] is not None
    assert "cannot be replayed" in tree.split

"""Pipelines played out event by event: their replay, and the same batch under other schedules."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import Answer, ask, baseline
from perfkit.analyzers.whatif_pipeline import pipeline_of
from perfkit.trace.model import RankTrace
from tests.analyzers import test_pipeline_facts as pipelines
from tests.analyzers.test_pipeline_facts import played, without_peers
from tests.builders import MAIN, Item, StepItem, comm_call, gloo, op, rank_trace, run_of, step

CASES = [("gpipe", 2, 4), ("gpipe", 4, 8), ("1f1b", 2, 8), ("1f1b", 4, 8)]


def with_backward(traces: Sequence[RankTrace]) -> list[RankTrace]:
    """Mark the backward passes, as the profiler's sequence numbers do."""
    marked = []
    for trace in traces:
        names = np.array([name == "aten::B" for name in trace.events.names])
        events = replace(trace.events, backward=names[trace.events.name])
        marked.append(replace(trace, events=events))
    return marked


def graph_of(traces: Sequence[RankTrace]) -> StepGraph | Refusal:
    return build_graph(*run_of(*traces))


def step_ms(schedule: str, stages: int, micro_batches: int) -> float:
    """Return the length of the step that was played."""
    windows = played(schedule, stages, micro_batches, named=True)[0].steps
    return float(windows.end_ns[0] - windows.start_ns[0]) / 1e6


@pytest.mark.parametrize(("schedule", "stages", "micro_batches"), CASES)
def test_the_replay_of_a_pipeline_is_exact(schedule: str, stages: int, micro_batches: int) -> None:
    graph = graph_of(played(schedule, stages, micro_batches, named=True))
    assert isinstance(graph, StepGraph)
    assert graph.replay_error == pytest.approx(0.0, abs=1e-9)
    assert graph.unmatched == 0 and not graph.unexplained


@pytest.mark.parametrize(("then", "many"), [("gpipe", 2), ("gpipe", 16), ("1f1b", 4), ("1f1b", 16)])
@pytest.mark.parametrize(("schedule", "stages", "micro_batches"), CASES)
def test_another_schedule_takes_what_it_takes_when_played(
    schedule: str,
    stages: int,
    micro_batches: int,
    then: str,
    many: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces = with_backward(played(schedule, stages, micro_batches, named=True))
    facts = analyze(*run_of(*traces)).pipeline
    graph = graph_of(traces)
    assert isinstance(graph, StepGraph)
    found = ask(baseline(graph, None), [pipeline_of(facts, schedule=then, micro_batches=many)])
    for kind, ms in (("F", 10.0), ("B", 20.0)):
        monkeypatch.setitem(pipelines.TIMES, kind, ms * micro_batches / many)
    assert isinstance(found, Answer)
    assert found.predicted_ms == pytest.approx(step_ms(then, stages, many), rel=1e-6)


def test_what_is_sent_to_nobody_known_is_refused() -> None:
    found = graph_of(without_peers(played("1f1b", 4, 8, named=True)))
    assert isinstance(found, Refusal)
    assert "sends and receives could not be paired" in found.reason


def test_a_wait_for_what_had_arrived_is_named() -> None:
    """The sender goes on 29 of 45 ms after its message was there, and nothing says why."""
    ranks = []
    for rank, name in ((0, "send"), (1, "recv")):
        items: list[Item | StepItem] = []
        for k in range(4):
            at = 45.0 * k
            first, posted, closed = (10.0, 10.05, 40.0) if rank == 0 else (0.0, 0.05, 11.0)
            items += [
                step(k, at_ms=at, ms=45.0),
                comm_call(f"c10d::{name}", at_ms=at + first, ms=0.05),
                gloo(name, at_ms=at + posted, ms=closed - posted, source=0, target=1, thread=MAIN),
                op("aten::mm", at_ms=at + closed, ms=45.0 - closed),
            ]
            if rank == 0:
                items.append(op("aten::mm", at_ms=at, ms=first))
        ranks.append(rank_trace(*items, rank=rank, world_size=2, device_kind="cpu"))
    found = graph_of(ranks)
    assert isinstance(found, Refusal)
    late = "the training thread of rank 0 is late by 29.00 ms a step without a recorded cause"
    assert f"{late}, most after sends that had arrived" in found.reason

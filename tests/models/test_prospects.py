"""The report's list of what is worth trying, and its mirror, on runs of known truth."""

import pytest

from perfkit.analyzers.analysis import analyze, decode, encode
from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.prospects import prospects
from perfkit.analyzers.refusal import Refusal
from perfkit.report import html
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
from tests.models.known_runs import cpu_run, cpu_step_ms


def test_changes_come_by_gain_and_the_rest_is_the_trap() -> None:
    graph = build_graph(*cpu_run())
    assert isinstance(graph, StepGraph)
    found = prospects(graph, seed=0)
    assert found.step_ms == pytest.approx(cpu_step_ms()) and found.refused == ""
    alone = {p.changes[0]: p.speed_up for p in found.worth_trying if len(p.changes) == 1}
    assert alone["network x2"] == pytest.approx(cpu_step_ms() / cpu_step_ms(transfer_ms=6))
    gains = [p.speed_up for p in found.worth_trying]
    assert gains == sorted(gains, reverse=True) and min(gains) >= 1.01
    assert len(found.worth_trying) - len(alone) == 2
    assert not found.no_gain


def test_work_off_the_critical_path_is_the_trap() -> None:
    """Rank 0 waits 10 ms for input, but then 30 ms for rank 1: the loader is not what delays."""
    ranks = []
    for rank, compute_ms in enumerate((20.0, 60.0)):
        items: list[Item | StepItem] = []
        for k in range(3):
            at, begin = 80.0 * k, 80.0 * k + (10.0 if rank == 0 else 0.0)
            call = begin + compute_ms
            items += [
                step(k, at_ms=at, ms=80),
                op("aten::mm", at_ms=begin, ms=compute_ms),
                comm_call(at_ms=call, ms=0.05),
                gloo("all_reduce", at_ms=call + 0.05, ms=at + 75 - call - 0.05, sequence=k,
                     elements=1_000_000),
                op("aten::add_", at_ms=at + 75, ms=5),
            ]  # fmt: skip
            if rank == 0:
                items.append(input_wait(at_ms=at, ms=10))
        ranks.append(rank_trace(*items, rank=rank, world_size=2, device_kind="cpu"))
    graph = build_graph(*run_of(*ranks))
    assert isinstance(graph, StepGraph)
    found = prospects(graph, seed=0)
    assert {p.changes[0]: p.speed_up for p in found.no_gain} == {
        "no input stall": pytest.approx(1.0)
    }
    assert found.worth_trying[0].speed_up > 1.2


def test_nothing_is_predicted_without_a_graph_that_replays() -> None:
    found = prospects(Refusal(reason="a stream is late"), seed=0)
    assert "late" in found.refused and found.worth_trying == ()


def test_the_analysis_and_its_report_hold_both() -> None:
    analysis = analyze(*cpu_run())
    assert analysis.what_if is not None and analysis.what_if.worth_trying
    assert decode(encode(analysis)).what_if == analysis.what_if
    page = html.render(analysis)
    assert "What is worth trying" in page and "--network x2" in page
    alone = analyze(*run_of(rank_trace(step(0, at_ms=0, ms=10), rank=0, world_size=2)))
    assert alone.what_if is not None and alone.what_if.refused
    assert "Nothing is predicted" in html.render(alone)

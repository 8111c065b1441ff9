"""Each cause of an idle device, and what a graph changes."""

import pytest

from perfkit.analyzers.attribution import attribute, class_table
from perfkit.analyzers.host_state import NO_PAUSES, ProcessPauses
from perfkit.analyzers.windows import step_windows
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import RankTrace
from tests.builders import (
    AUTOGRAD,
    Item,
    alloc,
    checkpoint,
    compiling,
    gc_pause,
    h2d,
    host,
    input_wait,
    kernel,
    op,
    rank_trace,
    step,
    step_lines,
    sync,
)


def classes(trace: RankTrace, pauses: ProcessPauses = NO_PAUSES) -> dict[str, float]:
    """Milliseconds per class of a trace's only step; they must fill its window."""
    windows = step_windows(trace)
    (row,) = class_table(attribute(trace, windows, pauses), windows)
    assert row.sum() == windows.end_ns[0] - windows.start_ns[0]
    return {TimeClass(c).key: ns / 1e6 for c, ns in enumerate(row.tolist()) if ns}


def gap(*during: Item, launched_at_ms: float | None = 50.0) -> RankTrace:
    """Device work in [0, 10) and [50, 60) of a 60 ms step; the host does `during` meanwhile."""
    return rank_trace(
        step(0, at_ms=0, ms=60),
        kernel("first", at_ms=0, ms=10),
        kernel("second", at_ms=50, ms=10, launched_at_ms=launched_at_ms),
        *during,
    )


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (checkpoint(at_ms=10, ms=40), "checkpoint"),
        (input_wait(at_ms=10, ms=40), "input_wait"),
        (sync(at_ms=10, ms=40), "host_sync"),
        (alloc(at_ms=10, ms=40), "host_alloc"),
        (compiling(at_ms=10, ms=40), "host_compile"),
        (gc_pause(at_ms=10, ms=40), "host_gc"),
        (op("aten::add", at_ms=10, ms=40), "host_launch"),
    ],
)
def test_a_late_launch_is_charged_to_what_its_thread_did(item: Item, name: str) -> None:
    assert classes(gap(item)) == {"compute": 20, name: 40}


def test_higher_states_win_and_the_rest_is_launching() -> None:
    trace = gap(input_wait(at_ms=12, ms=10), sync(at_ms=15, ms=20))
    assert classes(trace) == {"compute": 20, "input_wait": 10, "host_sync": 13, "host_launch": 17}


def test_only_the_launching_thread_counts() -> None:
    trace = gap(host(Kind.INPUT_WAIT, "DataLoader.__next__", at_ms=10, ms=40, thread=AUTOGRAD))
    assert classes(trace) == {"compute": 20, "host_launch": 40}


def test_pauses_from_step_lines_count_on_every_thread() -> None:
    pauses = ProcessPauses.of(step_lines([60], gc=[(0, 20, 5)], compiled=[(0, 30, 10)]))
    assert classes(gap(), pauses) == {
        "compute": 20,
        "host_gc": 5,
        "host_compile": 10,
        "host_launch": 25,
    }


def test_enqueued_work_is_a_dependency() -> None:
    assert classes(gap(launched_at_ms=5)) == {"compute": 20, "idle_dependency": 40}


def test_a_short_gap_before_enqueued_work_is_latency() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=20),
        kernel("first", at_ms=0, ms=10),
        kernel("second", at_ms=10.01, ms=9.99, launched_at_ms=5),
    )
    assert classes(trace) == {"compute": 19.99, "launch_latency": 0.01}


def test_from_the_launch_call_on_it_is_latency() -> None:
    assert classes(gap(launched_at_ms=35)) == {
        "compute": 20,
        "host_launch": 25,
        "launch_latency": 15,
    }


def test_gaps_inside_a_graph_are_dependencies() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=60),
        kernel("node0", at_ms=2, ms=8, launched_at_ms=0, launch_ms=30, graph="g"),
        kernel("node1", at_ms=20, ms=10, launched_at_ms=0, launch_ms=30, graph="g"),
        kernel("node2", at_ms=30.004, ms=29.996, launched_at_ms=0, launch_ms=30, graph="g"),
    )
    # The host is still inside the launch call, yet the device waits for its own graph.
    assert classes(trace) == {
        "launch_latency": 2,
        "compute": 47.996,
        "idle_dependency": 10.004,
    }


def test_without_a_launch_the_training_thread_decides() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=60),
        kernel("first", at_ms=0, ms=10),
        kernel("graph node", at_ms=50, ms=10, unlinked=True),
        input_wait(at_ms=10, ms=15),
        op("aten::add", at_ms=25, ms=5),
    )
    assert classes(trace) == {"compute": 20, "input_wait": 15, "host_launch": 5, "other": 20}


def test_copies_count_only_where_nothing_else_runs() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=20),
        kernel("gemm", at_ms=0, ms=10),
        h2d(at_ms=5, ms=15),
    )
    assert classes(trace) == {"compute": 10, "memcpy": 10}


def test_device_windows_follow_the_device_not_the_host() -> None:
    """The host runs a step ahead: its step 1 begins while the device still works on step 0."""
    trace = rank_trace(
        *(step(k, at_ms=10 * k, ms=10) for k in range(3)),
        kernel("step0", at_ms=8, ms=9, launched_at_ms=1),
        kernel("step1", at_ms=17, ms=10, launched_at_ms=11),
        kernel("step2", at_ms=30, ms=10, launched_at_ms=21),
    )
    windows = step_windows(trace)
    assert windows.step.tolist() == [0, 1], "nothing shows where the last step ends"
    origin = windows.start_ns[0]
    assert (windows.start_ns - origin).tolist() == [0, 9_000_000]
    assert (windows.end_ns - origin).tolist() == [9_000_000, 22_000_000]
    table = class_table(attribute(trace, windows, NO_PAUSES), windows)
    assert table.sum(axis=1).tolist() == [9_000_000, 13_000_000]
    assert table[1, TimeClass.IDLE_DEPENDENCY] == 3_000_000
    assert windows.straddle == 0.0

"""CPU-only runs: what counts as compute, input, communication and Python."""

from perfkit.analyzers.attribution import attribute, class_table, unrecorded_classes
from perfkit.analyzers.host_state import NO_PAUSES
from perfkit.analyzers.windows import step_windows
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import RankTrace
from tests.builders import (
    AUTOGRAD,
    LOADER,
    Item,
    StepItem,
    checkpoint,
    comm_call,
    gloo,
    input_wait,
    op,
    rank_trace,
    step,
)


def classes(*items: Item | StepItem) -> dict[str, float]:
    trace = cpu(*items)
    windows = step_windows(trace)
    (row,) = class_table(attribute(trace, windows, NO_PAUSES), windows)
    assert row.sum() == windows.end_ns[0] - windows.start_ns[0]
    return {TimeClass(c).key: ns / 1e6 for c, ns in enumerate(row.tolist()) if ns}


def cpu(*items: Item | StepItem) -> RankTrace:
    return rank_trace(step(0, at_ms=0, ms=100), *items, device_kind="cpu", world_size=2)


def test_input_outranks_the_operators_of_a_loader_in_the_same_thread() -> None:
    found = classes(input_wait(at_ms=0, ms=30), op("aten::stack", at_ms=5, ms=20))
    assert found == {"input_wait": 30, "host_launch": 70}


def test_loader_threads_do_not_compute() -> None:
    found = classes(op("aten::stack", at_ms=0, ms=50, thread=LOADER))
    assert found == {"host_launch": 100}


def test_autograd_threads_compute() -> None:
    found = classes(
        op("aten::mm", at_ms=0, ms=50, thread=AUTOGRAD), op("aten::mm", at_ms=40, ms=20)
    )
    assert found == {"compute": 60, "host_launch": 40}


def test_enqueueing_a_collective_is_not_compute_but_operators_within_it_are() -> None:
    found = classes(
        op("autograd::engine::evaluate_function", at_ms=0, ms=50),
        comm_call(at_ms=10, ms=20),
        op("aten::copy_", at_ms=15, ms=5),
    )
    assert found == {"compute": 35, "host_launch": 65}


def test_communication_counts_where_no_operator_runs() -> None:
    found = classes(op("aten::mm", at_ms=0, ms=50), gloo("all_reduce", at_ms=30, ms=40))
    assert found == {"compute": 50, "comm_unmatched": 20, "host_launch": 30}


def test_checkpoint_outranks_everything() -> None:
    found = classes(checkpoint(at_ms=0, ms=40), op("aten::copy_", at_ms=10, ms=20))
    assert found == {"checkpoint": 40, "host_launch": 60}


def test_overlapping_transfers_count_once() -> None:
    found = classes(
        gloo("all_reduce", at_ms=10, ms=40), gloo("all_reduce", at_ms=20, ms=60, thread=999)
    )
    assert found == {"comm_unmatched": 70, "host_launch": 30}


def test_classes_without_a_recorder_are_named() -> None:
    trace = rank_trace(step(0, at_ms=0, ms=1), device_kind="cpu", recorders={"input_wait", "gc"})
    assert unrecorded_classes(trace, on_device=False) == {
        TimeClass.MEMCPY,
        TimeClass.CHECKPOINT,
        TimeClass.HOST_SYNC,
        TimeClass.HOST_ALLOC,
        TimeClass.HOST_COMPILE,
        TimeClass.LAUNCH_LATENCY,
        TimeClass.IDLE_DEPENDENCY,
    }
    assert unrecorded_classes(trace, on_device=True) == {
        TimeClass.CHECKPOINT,
        TimeClass.HOST_SYNC,
        TimeClass.HOST_ALLOC,
        TimeClass.HOST_COMPILE,
    }


def test_host_windows_reach_to_the_next_step() -> None:
    trace = rank_trace(
        step(3, at_ms=0, ms=10),
        step(4, at_ms=12, ms=10),
        step(5, at_ms=24, ms=10, complete=False),
        device_kind="cpu",
    )
    windows = step_windows(trace)
    assert windows.step.tolist() == [3, 4]
    assert (windows.end_ns - windows.start_ns).tolist() == [12_000_000, 12_000_000]


def test_time_between_two_captured_windows_belongs_to_nobody() -> None:
    trace = rank_trace(
        *(step(k, at_ms=10 * k, ms=10) for k in (0, 1, 50, 51)),
        op("aten::mm", at_ms=0, ms=520),
        device_kind="cpu",
    )
    windows = step_windows(trace)
    parts = attribute(trace, windows, NO_PAUSES)
    assert (parts.end_ns - parts.start_ns).sum() == 40_000_000
    assert class_table(parts, windows)[:, TimeClass.COMPUTE].tolist() == [10_000_000] * 4

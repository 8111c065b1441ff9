"""Mixed precision by operators' roofs and fused kernels, against steps known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import Answer, Change, ask, baseline
from perfkit.analyzers.whatif_fusion import fused_elementwise
from perfkit.analyzers.whatif_precision import half_precision
from perfkit.roofline.hardware import Hardware, all_hardware
from perfkit.roofline.kernel_work import kernel_work
from perfkit.trace.model import OpShape, RankTrace
from tests.builders import Item, StepItem, kernel, op, rank_trace, run_of, step, sync
from tests.models.known_runs import cpu_run

A100 = next(h for h in all_hardware() if h.name == "NVIDIA A100 SXM 80GB")
HOST_MS, TAIL_MS = 2.0, 0.5


def matrix(m: int, n: int, k: int, dtype: str = "float") -> OpShape:
    return OpShape(dims=((m, k), (k, n)), dtypes=(dtype, dtype))


def on_a100(trace: RankTrace) -> RankTrace:
    """Say which device it was, and tie the matrix kernels to the operators that launched them."""
    named = replace(trace.devices[0], name="NVIDIA A100-SXM4-80GB", memory_bytes=80 << 30)
    events = trace.events
    names = np.array(events.names)[events.name]
    operators = np.flatnonzero(names == "aten::mm")
    launched = events.start_ns[events.launch]
    mine = operators[np.searchsorted(events.start_ns[operators], launched, side="right") - 1]
    product = np.char.startswith(names, "sgemm")
    op_rows = np.where(product, mine, events.op).astype(np.int32)
    return replace(trace, devices=(named,), events=replace(events, op=op_rows))


def graph(*kernels: tuple[str, float], shape: OpShape | None = None) -> StepGraph:
    """A rank whose host launches these kernels (name, ms) one after the other and waits."""
    items: list[Item | StepItem] = []
    length = HOST_MS + sum(ms for _, ms in kernels) + TAIL_MS
    for k in range(4):
        at = k * length
        items += [
            step(k, at_ms=at, ms=length),
            op("aten::mm", at_ms=at, ms=HOST_MS + 0.1, shape=shape),
            sync(at_ms=at + HOST_MS + 0.1, ms=length - HOST_MS - TAIL_MS - 0.1),
        ]
        begin = at + HOST_MS
        for number, (name, ms) in enumerate(kernels):
            issued = at + HOST_MS + 0.01 * number
            items.append(kernel(name, at_ms=begin, ms=ms, launched_at_ms=issued))
            begin += ms
    trace = on_a100(rank_trace(*items))
    found = build_graph(run_of(trace)[0], lambda _: trace)
    assert isinstance(found, StepGraph), found
    return found


def predicted(of: StepGraph, change: Change) -> float:
    answer = ask(baseline(of, None), [change])
    assert isinstance(answer, Answer), answer
    return answer.predicted_ms - HOST_MS - TAIL_MS


def in_bf16_ms(now_ms: float, moved: float, hardware: Hardware) -> float:
    peaks = hardware.matrix_flop_per_s
    memory_ms = 1e3 * moved / 2 / hardware.memory_bytes_per_s
    cast_ms = 1e3 * 1.5 * moved / hardware.memory_bytes_per_s
    return max(now_ms * peaks["fp32"] / peaks["bf16"], memory_ms, 0.002) + cast_ms


@pytest.mark.parametrize(
    ("size", "now_ms", "bound"),
    [((4096, 4096, 4096), 20.0, "arithmetic"), ((4096, 1, 4096), 0.1, "memory")],
)
def test_a_product_takes_what_its_roof_allows(
    size: tuple[int, int, int], now_ms: float, bound: str
) -> None:
    m, n, k = size
    moved = 4.0 * (m * k + k * n + m * n)
    of = graph(("sgemm", now_ms), ("adam", 5.0), shape=matrix(m, n, k))
    expected = in_bf16_ms(now_ms, moved, A100)
    assert predicted(of, half_precision()) == pytest.approx(expected + 5.0, abs=2e-3)
    assert (expected > 2 * now_ms * 19.5 / 312) == (bound == "memory")


def test_without_shapes_a_matrix_kernel_takes_half() -> None:
    of = graph(("sgemm", 20.0), ("adam", 5.0))
    assert predicted(of, half_precision()) == pytest.approx(15.0, rel=2e-3)


def test_what_is_in_bf16_gains_nothing() -> None:
    of = graph(("sgemm_bf16", 20.0), shape=matrix(512, 512, 512, "c10::BFloat16"))
    refused = ask(baseline(of, None), [half_precision()])
    assert isinstance(refused, Refusal) and "already" in refused.reason


SIMPLE = "void at::native::vectorized_elementwise_kernel<4, f>"


def test_a_chain_takes_as_long_as_its_longest_member() -> None:
    of = graph((SIMPLE, 3.0), (SIMPLE, 5.0), (SIMPLE, 2.0), ("sgemm", 7.0), (SIMPLE, 4.0))
    assert predicted(of, fused_elementwise()) == pytest.approx(5.0 + 7.0 + 4.0, rel=2e-3)


def chain(*moved_and_made: tuple[float, float]) -> StepGraph:
    """Kernels of 4 ms each in a row, with these bytes behind them in every step."""
    of = graph(*[(SIMPLE, 4.0)] * len(moved_and_made), ("sgemm", 7.0))
    work = of.work
    tasks = np.flatnonzero(np.array([*of.names, ""])[of.name] == SIMPLE)
    for task, (moved, made) in zip(tasks.tolist(), moved_and_made * len(of.steps), strict=True):
        work.simple[task], work.made[task] = moved, made
    return of


def test_a_chain_with_shapes_loses_its_intermediate_results() -> None:
    """Add (2 in, 1 out), then relu (1 in, 1 out): of 5 arrays moved, 3 are left."""
    of = chain((300.0, 100.0), (200.0, 100.0))
    assert predicted(of, fused_elementwise()) == pytest.approx(8.0 * 3 / 5 + 7.0, rel=2e-3)


def test_what_is_not_read_by_the_next_is_still_written() -> None:
    of = chain((300.0, 100.0), (20.0, 10.0), (20.0, 10.0))
    assert predicted(of, fused_elementwise()) == pytest.approx(12.0 * 320 / 340 + 7.0, rel=2e-3)


def test_the_bytes_behind_kernels_come_from_recorded_shapes() -> None:
    """Two kernels of one addition share its bytes by their durations; a product has its own."""
    half, whole = ((512, 512),) * 2, ("float", "float")
    trace = rank_trace(
        step(0, at_ms=0, ms=20),
        op("aten::add", at_ms=0, ms=1, shape=OpShape(dims=half, dtypes=whole)),
        op("aten::mm", at_ms=1, ms=1, shape=OpShape(dims=half, dtypes=whole)),
        kernel("add1", at_ms=3, ms=1, launched_at_ms=0.1),
        kernel("add2", at_ms=4, ms=3, launched_at_ms=0.2),
        kernel("gemm", at_ms=7, ms=5, launched_at_ms=1.1),
    )
    names = np.array(trace.events.names)[trace.events.name]
    rows = {name: int(np.flatnonzero(names == name)[0]) for name in names}
    ops = trace.events.op.copy()
    for kernel_name, owner in (("add1", "aten::add"), ("add2", "aten::add"), ("gemm", "aten::mm")):
        ops[rows[kernel_name]] = rows[owner]
    found = kernel_work(replace(trace, events=replace(trace.events, op=ops)))
    array = 512 * 512 * 4.0
    assert found.simple[[rows["add1"], rows["add2"]]].tolist() == [0.75 * array, 2.25 * array]
    assert found.made[[rows["add1"], rows["add2"]]].tolist() == [0.25 * array, 0.75 * array]
    assert found.matrix[rows["gemm"]] == 3 * array
    assert np.isnan(found.simple[rows["gemm"]]) and np.isnan(found.matrix[rows["add1"]])


def test_it_says_how_many_chains_go_by_name() -> None:
    answer = ask(baseline(graph((SIMPLE, 3.0), (SIMPLE, 5.0)), None), [fused_elementwise()])
    assert isinstance(answer, Answer)
    (note,) = [a for a in answer.assumptions if "without recorded shapes" in a and a[:2] == "of"]
    assert note == "of 4 chains, 4 without recorded shapes"


def test_equal_members_leave_one() -> None:
    of = graph((SIMPLE, 3.0), (SIMPLE, 3.0))
    assert predicted(of, fused_elementwise()) == pytest.approx(3.0, rel=2e-3)


def test_nothing_to_fuse_is_refused() -> None:
    cpu = build_graph(*cpu_run())
    assert isinstance(cpu, StepGraph)
    for of, why in ((graph((SIMPLE, 3.0), ("sgemm", 2.0)), "no two"), (cpu, "CPU")):
        refused = ask(baseline(of, None), [fused_elementwise()])
        assert isinstance(refused, Refusal) and why in refused.reason

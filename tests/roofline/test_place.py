"""Points under roofs: shares, bounds, nesting, recomputation, and what is said when it is odd."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline.calls import WITHOUT_INNER
from perfkit.roofline.place import Placement, place
from perfkit.trace.kinds import Kind
from perfkit.trace.model import OpShape, RankTrace
from tests.builders import AUTOGRAD, Item, host, kernel, op, rank_trace, step
from tests.roofline.machines import ceilings, roofs
from tests.roofline.shapes import shape

CUBE = shape([(1000, 1000), (1000, 1000)], ["float", "float"])  # 2 GFLOP, 12 MB
COPY = shape([(1000, 1000), (1000, 1000), ()], ["float", "float", "Scalar"])  # 8 MB
SMALL_COPY = shape([(100, 100), (100, 100), ()], ["float", "float", "Scalar"])  # 80 kB
ONE = shape([(1,)], ["float"])


def cpu(*items: Item, ms: float = 100) -> RankTrace:
    trace = rank_trace(step(0, at_ms=0, ms=ms), *items, device_kind="cpu")
    return replace(trace, has_shapes=True)


def mm(at_ms: float, ms: float, inputs: OpShape = CUBE) -> Item:
    return op("aten::mm", at_ms=at_ms, ms=ms, shape=inputs)


def copy(at_ms: float, ms: float, inputs: OpShape = COPY) -> Item:
    return op("aten::copy_", at_ms=at_ms, ms=ms, shape=inputs)


def names(placement: Placement) -> list[str]:
    return [point.name for point in placement.points]


def test_a_matrix_product_at_half_its_peak() -> None:
    (point,) = place(cpu(mm(0, 4)), roofs()).points
    assert point.limit == "tensor"
    assert point.attained == pytest.approx(0.5)  # 2 GFLOP take 2 ms at 1 TFLOP/s
    assert point.bound_s == pytest.approx(2e-3)
    assert point.above_roof_s == pytest.approx(2e-3)
    assert point.achieved_flop_per_s == pytest.approx(0.5e12)
    assert point.intensity == pytest.approx(2e9 / 12e6)


def test_a_copy_is_bound_by_memory() -> None:
    (point,) = place(cpu(copy(0, 0.1)), roofs()).points
    assert point.limit == "memory"
    assert point.attained == pytest.approx(0.8)  # 8 MB take 80 us at 100 GB/s
    assert not point.cache_resident


def test_a_tiny_operator_is_bound_by_dispatch() -> None:
    (point,) = place(
        cpu(op("aten::zero_", at_ms=0, ms=0.004, shape=ONE)), roofs(ceilings(launch_s=2e-6))
    ).points
    assert point.limit == "launch"
    assert point.attained == pytest.approx(0.5)


def test_most_time_above_the_roof_comes_first_and_sums_are_per_step() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=50),
        step(1, at_ms=50, ms=50),
        *(mm(at, 4) for at in (0, 10, 50, 60)),
        copy(20, 30),
        device_kind="cpu",
    )
    placement = place(trace, roofs())
    assert names(placement) == ["aten::copy_", "aten::mm"]
    assert placement.steps == (0, 1)
    product = placement.points[1]
    assert product.calls == 2
    assert product.time_s == pytest.approx(8e-3)
    assert placement.points[0].calls == 0.5
    assert placement.compute_s == pytest.approx((16 + 30) / 2 * 1e-3)
    assert placement.step_s == pytest.approx(50e-3)


def test_a_wrapper_leaves_its_product_to_be_counted_once() -> None:
    """aten::linear has no formula of its own; what it takes beyond the product has no cost."""
    placement = place(
        cpu(
            op("aten::linear", at_ms=0, ms=5, shape=CUBE),
            op("aten::t", at_ms=0.5, ms=0.25, shape=shape([(1000, 1000)], ["float"])),
            mm(1, 3),
        ),
        roofs(),
    )
    assert sum(point.flop for point in placement.points) == 2e9
    (left,) = placement.uncosted
    assert (left.name, left.kind, left.why) == ("aten::linear", "operator", WITHOUT_INNER)
    assert left.time_ns == 1_750_000
    assert placement.costed_share == pytest.approx(3.25 / 5)


def test_an_operator_owns_what_it_calls() -> None:
    """A convolution's own copies are part of its time, not points of their own."""
    placement = place(cpu(mm(0, 4), copy(1, 1)), roofs())
    assert names(placement) == ["aten::mm"]
    assert placement.points[0].time_s == pytest.approx(4e-3)
    assert placement.compute_s == pytest.approx(4e-3)


def test_an_operator_without_a_formula_is_listed_never_zero() -> None:
    placement = place(
        cpu(
            op("my::kernel", at_ms=0, ms=6, shape=CUBE),
            op("aten::mm", at_ms=7, ms=1),
            op("aten::sum", at_ms=8, ms=1, shape=shape([(4, 4), ()], ["float", "ScalarList"])),
        ),
        roofs(),
    )
    assert placement.points == ()
    reasons = {entry.name: entry.why for entry in placement.uncosted}
    assert reasons == {
        "my::kernel": "no formula",
        "aten::mm": "no shapes recorded",
        "aten::sum": "argument values were not recorded",
    }
    assert placement.costed_share == 0


def test_recomputation_executes_but_is_no_work_of_the_model() -> None:
    trace = cpu(mm(0, 4), replace(mm(10, 4), thread=AUTOGRAD))
    backward = trace.events.thread == AUTOGRAD
    events = replace(
        trace.events, backward=backward, sequence=np.where(backward, 7, 5).astype(np.int64)
    )
    placement = place(replace(trace, events=events), roofs())
    assert {point.recomputed for point in placement.points} == {True, False}
    assert sum(point.flop for point in placement.points) == 2e9
    assert sum(point.executed_flop for point in placement.points) == 4e9


def test_faster_than_memory_is_cache_resident_where_it_fits() -> None:
    fast = ceilings(cached={1 << 17: 1e12, 1 << 20: 500e9})
    (point,) = place(cpu(copy(0, 0.00016, SMALL_COPY)), roofs(fast)).points
    assert point.cache_resident
    assert point.attained == pytest.approx(0.5)  # 80 kB in 160 ns, the cache gives 1 TB/s
    assert "working set" in point.ceiling_source


def test_any_other_excess_is_a_finding_and_never_clamped() -> None:
    placement = place(cpu(mm(0, 1), copy(2, 0.04)), roofs())
    shares = sorted(point.attained or 0 for point in placement.points)
    assert shares == pytest.approx([2.0, 2.0])
    assert not any(point.cache_resident for point in placement.points)
    assert len(placement.findings) == 2
    assert all("200%" in text for text in placement.findings)


def test_without_ceilings_times_are_known_and_bounds_are_not() -> None:
    (point,) = place(cpu(mm(0, 4)), roofs(ceilings(matrix={"bf16": 1e12}, copy=None))).points
    assert point.time_s == pytest.approx(4e-3)
    assert (point.bound_s, point.limit, point.attained, point.above_roof_s) == (None,) * 4


def test_steps_that_are_cut_or_evaluate_are_left_out() -> None:
    trace = rank_trace(
        step(3, at_ms=0, ms=10, complete=False),
        step(4, at_ms=10, ms=10),
        step(5, at_ms=20, ms=10, has_eval=True),
        *(mm(at, 4) for at in (0, 10, 20)),
        device_kind="cpu",
    )
    placement = place(trace, roofs())
    assert placement.steps == (4,)
    assert placement.points[0].calls == 1


def test_a_module_gets_its_forward_and_its_backward() -> None:
    """The innermost module counts; the backward finds it by the forward's sequence number."""
    node = "autograd::engine::evaluate_function: MmBackward0"
    trace = cpu(
        host(Kind.MODULE, "nn.Module: Net_0", at_ms=0, ms=20),
        host(Kind.MODULE, "nn.Module: Linear_0", at_ms=1, ms=5),
        mm(2, 4),
        copy(10, 0.1),
        replace(op(node, at_ms=30, ms=12), thread=AUTOGRAD),
        replace(mm(31, 8), thread=AUTOGRAD),
        mm(50, 2),
    )
    events = trace.events
    names = [events.names[index] for index in events.name]
    forward = names.index("aten::mm")
    sequence = np.array(
        [7 if row in (forward, names.index(node)) else -1 for row in range(len(events))]
    )
    events = replace(events, sequence=sequence, backward=events.thread == AUTOGRAD)
    linear, net = place(replace(trace, events=events), roofs()).modules
    assert (linear.name, net.name) == ("nn.Module: Linear_0", "nn.Module: Net_0")
    assert linear.time_s == pytest.approx(12e-3)
    assert linear.flop == 4e9
    assert linear.attained == pytest.approx(4 / 12)
    assert net.time_s == pytest.approx(0.1e-3)


def gpu(*kernels: Item) -> RankTrace:
    """One matrix product that launched these kernels."""
    trace = rank_trace(step(0, at_ms=0, ms=100), mm(0, 1), *kernels)
    (owner,) = np.flatnonzero(trace.events.shape >= 0)
    on_device = trace.events.device >= 0
    issuer = np.where(on_device, owner, -1).astype(np.int32)
    return replace(trace, events=replace(trace.events, op=issuer))


def test_on_a_device_the_kernels_of_an_operator_carry_its_time() -> None:
    """Two overlapping kernels and one more: 3 + 1 ms, not the sum of 5."""
    trace = gpu(
        kernel("gemm", at_ms=10, ms=2),
        kernel("splitK", at_ms=11, ms=2, stream=8),
        kernel("gemm", at_ms=20, ms=1),
    )
    (point,) = place(trace, roofs()).points
    assert point.time_s == pytest.approx(4e-3)
    assert point.launches == 3
    assert point.limit == "tensor"


def test_tf32_shows_in_the_names_of_kernels() -> None:
    trace = gpu(kernel("ampere_sgemm_s1688_tf32_128x64", at_ms=10, ms=2))
    (point,) = place(trace, roofs(ceilings(matrix={"fp32": 1e12, "tf32": 4e12}))).points
    assert point.precision == "tf32"
    assert point.attained == pytest.approx(0.25)


def test_kernels_shorter_than_a_launch_are_bound_by_launching() -> None:
    trace = gpu(*(kernel("gemm", at_ms=10 + i, ms=0.001) for i in range(3)))
    (point,) = place(trace, roofs(ceilings(matrix={"fp32": 1e15}, copy=1e15))).points
    assert point.limit == "launch"


sizes = st.integers(1, 4096)
speeds = st.floats(1e9, 1e15)


@given(m=sizes, n=sizes, k=sizes, peak=speeds, bandwidth=speeds, slack=st.floats(1, 1e3))
def test_what_takes_its_bound_or_longer_stays_under_the_roof(
    m: int, n: int, k: int, peak: float, bandwidth: float, slack: float
) -> None:
    least_s = max(2 * m * n * k / peak, 4 * (m * k + k * n + m * n) / bandwidth)
    ms = max(least_s * slack * 1e3, 1e-6)
    trace = cpu(mm(0, ms, shape([(m, k), (k, n)], ["float", "float"])), ms=2 * ms)
    under = roofs(ceilings(matrix={"fp32": peak}, copy=bandwidth, cache_bytes=None))
    (point,) = place(trace, under).points
    assert point.attained is not None
    assert 0 < point.attained <= 1.001 + 1e-6 / ms  # times are whole nanoseconds


@given(peak=speeds, bandwidth=speeds, factor=st.floats(1, 10))
def test_higher_roofs_never_raise_a_bound(peak: float, bandwidth: float, factor: float) -> None:
    def bound(p: float, b: float) -> float:
        found = place(cpu(mm(0, 50)), roofs(ceilings(matrix={"fp32": p}, copy=b))).points[0]
        assert found.bound_s is not None
        return found.bound_s

    assert bound(peak * factor, bandwidth) <= bound(peak, bandwidth)
    assert bound(peak, bandwidth * factor) <= bound(peak, bandwidth)

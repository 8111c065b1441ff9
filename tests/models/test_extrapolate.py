"""More ranks from one trace, checkpoint intervals, the iron law."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analyzers import reliability as rel
from perfkit.analyzers.extrapolate import StepParts, ddp_overlap, predict_step
from perfkit.analyzers.iron_law import FleetTerms, NodeTerms, waterfall
from perfkit.roofline.collective_cost import Link, ring_s

READY = [20.0, 40.0, 60.0, 80.0]


@pytest.mark.parametrize(
    ("cost", "ends", "exposed"),
    [(10, [30, 50, 70, 90], 10), (25, [45, 70, 95, 120], 40), (15, [35, 55, 75, 95], 15)],
)
def test_buckets_on_one_stream(cost: float, ends: list[float], exposed: float) -> None:
    overlap = ddp_overlap(READY, [cost] * 4, 80)
    assert list(overlap.finish_s) == ends
    assert overlap.exposed_s == exposed


def test_weak_scaling_from_one_trace() -> None:
    parts = StepParts(
        forward_s=40e-3,
        backward_s=80e-3,
        optimizer_s=10e-3,
        bucket_bytes=(100_000_000,) * 4,
        ready_s=tuple(r * 1e-3 for r in READY),
    )
    link = Link(alpha_s=10e-6, bandwidth_byte_per_s=25e9)
    expected = {
        1: (130, 1.0),
        2: (134.02, 0.97),
        8: (137.14, 0.9479),
        64: (139.135, 0.9343),
        128: (140.4775, 0.9254),
        256: (143.0687, 0.9087),
        512: (148.2044, 0.8772),
    }
    for ranks, (step_ms, efficiency) in expected.items():
        seen = predict_step(parts, ranks, lambda s, n: ring_s("all_reduce", s, n, link))
        assert seen.step_s * 1e3 == pytest.approx(step_ms, rel=1e-4)
        assert seen.efficiency == pytest.approx(efficiency, abs=1e-4)


TIMES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@given(TIMES, st.floats(0.1, 5), st.floats(0, 0.9))
def test_overlap_is_bounded_by_none_and_perfect(
    buckets: list[tuple[float, float]], backward: float, contention: float
) -> None:
    ready = sorted(min(r, 1.0) * backward for r, _ in buckets)
    cost = [c for _, c in buckets]
    free = ddp_overlap(ready, cost, backward)
    assert max(0.0, sum(cost) - backward) <= free.exposed_s + 1e-9
    assert free.exposed_s <= sum(cost) + 1e-9
    contended = ddp_overlap(ready, cost, backward, contention=contention)
    assert contended.exposed_s >= free.exposed_s - 1e-9


def test_contention_stretches_what_overlaps() -> None:
    # one bucket, ready at 20 and 30 long: 30 of the 80 run beside it, 10 % slower
    overlap = ddp_overlap([20.0], [30.0], 80.0, contention=0.1)
    assert overlap.exposed_s == pytest.approx(3.0)


def test_nonsense_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match="one cost"):
        ddp_overlap([1.0], [], 1.0)
    with pytest.raises(ValueError, match="contention"):
        ddp_overlap([1.0], [1.0], 1.0, contention=1.0)


@pytest.mark.parametrize(
    ("write", "mtbf", "young", "daly", "waste"),
    [
        (60, 86400, 3219.94, 3180.06, 0.0372678),
        (300, 10800, 2545.58, 2349.51, 0.235702),
        (30, 14400, 929.516, 909.624, 0.0645497),
    ],
)
def test_checkpoint_intervals(
    write: float, mtbf: float, young: float, daly: float, waste: float
) -> None:
    assert rel.young_interval_s(write, mtbf) == pytest.approx(young, rel=1e-5)
    assert rel.daly_interval_s(write, mtbf) == pytest.approx(daly, rel=1e-5)
    assert rel.first_order_waste(young, write, mtbf) == pytest.approx(waste, rel=1e-5)


def test_the_exact_optimum() -> None:
    assert rel.optimal_interval_s(60, 86400) == pytest.approx(3180.062, rel=1e-5)
    plan = rel.checkpoint_plan(60, 86400, restart_s=300)
    assert plan.goodput == pytest.approx(0.959855, rel=1e-5)
    assert 1 / plan.goodput == pytest.approx(1.041824, rel=1e-5)
    assert plan.goodput + plan.lost_to_writing + plan.lost_to_failures == pytest.approx(1)


def test_a_cluster_fails_more_often() -> None:
    hours = rel.cluster_mtbf_s(54 * 24, 419)  # Llama 3: 419 failures in 54 days
    assert hours == pytest.approx(3.09308, rel=1e-5)
    assert rel.cluster_mtbf_s(1e6, 100) == 1e4
    assert rel.goodput_of_run(900, 0.1, 100) == pytest.approx(0.9)
    assert rel.daly_interval_s(100, 50) == 50


@given(st.floats(1, 1000), st.floats(2000, 1e7))
def test_daly_is_near_the_optimum_and_no_interval_beats_it(write: float, mtbf: float) -> None:
    best = rel.optimal_interval_s(write, mtbf)
    least = rel.slow_down(best, write, mtbf)
    daly = rel.slow_down(rel.daly_interval_s(write, mtbf), write, mtbf)
    assert least <= daly * (1 + 1e-12) <= least * 1.01
    assert least <= rel.slow_down(rel.young_interval_s(write, mtbf), write, mtbf) * (1 + 1e-9)


TERMS = st.builds(
    FleetTerms,
    flops=st.floats(1e15, 1e25),
    devices=st.integers(1, 10000),
    peak_flop_per_s=st.floats(1e12, 1e16),
    mfu=st.floats(0.05, 0.9),
    scaling_efficiency=st.floats(0.1, 1),
    goodput=st.floats(0.1, 1),
)


@given(TERMS, TERMS)
def test_the_waterfall_adds_up(base: FleetTerms, new: FleetTerms) -> None:
    parts = waterfall(base, new)
    product = 1.0
    for part in parts:
        product *= part.time_ratio
    assert product == pytest.approx(new.seconds / base.seconds, rel=1e-9)


def test_gpt3_takes_34_days() -> None:
    # Narayanan et al. 2021: 8 T P / (n X) with X = 140 TFLOP/s of 312 achieved
    terms = FleetTerms(flops=8 * 300e9 * 175e9, devices=1024, peak_flop_per_s=312e12,
                       mfu=140 / 312, scaling_efficiency=1, goodput=1)  # fmt: skip
    assert terms.seconds / 86400 == pytest.approx(33.9084, rel=1e-4)


def test_the_binding_term_of_a_node() -> None:
    node = NodeTerms(data_s=1, compute_s=3, network_s=2, overhead_s=0.5)
    assert (node.serial_s, node.overlapped_s, node.binding) == (6.5, 3.5, "compute")

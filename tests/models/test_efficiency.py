"""The efficiency tree's golden values and the identity that its factors multiply up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analyzers.efficiency import EfficiencyTree, Point, efficiency_tree, global_efficiency
from perfkit.analyzers.refusal import Refusal


def tree(*args: object, **kwargs: object) -> EfficiencyTree:
    result = efficiency_tree(*args, **kwargs)  # type: ignore[arg-type]
    assert isinstance(result, EfficiencyTree), result
    return result


def test_two_ranks() -> None:
    plain = tree([68, 80], 100)
    assert (plain.load_balance, plain.communication, plain.parallel) == pytest.approx(
        (0.925, 0.8, 0.74)
    )
    assert plain.serialisation is None and plain.transfer is None
    four = tree([80, 90, 100, 70], 125)
    assert (four.load_balance, four.communication, four.parallel) == pytest.approx(
        (0.85, 0.8, 0.68)
    )


def test_an_ideal_network_splits_communication() -> None:
    split = tree([68, 80], 100, ideal_network_s=90)
    assert (split.serialisation, split.transfer) == pytest.approx((0.888889, 0.9), rel=1e-5)


def test_host_and_io_factors_of_example_a() -> None:
    full = tree([68, 80], 100, host_s=[5, 10], io_s=[17, 5])
    factors = (full.load_balance, full.orchestration, full.io, full.communication)
    assert factors == pytest.approx((0.925, 0.888889, 0.947368, 0.95), rel=1e-5)
    product = full.load_balance * full.orchestration * full.io * full.communication
    assert product == pytest.approx(0.74)


RANKS = st.lists(
    st.tuples(st.floats(0.1, 10), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=16
)


@given(RANKS, st.floats(0, 10))
def test_the_factors_multiply_up_and_stay_below_one(
    ranks: list[tuple[float, float, float]], waiting: float
) -> None:
    useful, host, io = (list(column) for column in zip(*ranks, strict=True))
    elapsed = max(map(sum, ranks)) + waiting
    t = tree(useful, elapsed, host_s=host, io_s=io)
    factors = (t.load_balance, t.orchestration, t.io, t.communication)
    assert all(0 < f <= 1 + 1e-9 for f in factors)
    product = t.load_balance * t.orchestration * t.io * t.communication
    assert product == pytest.approx(t.parallel)


def test_what_cannot_be_is_refused() -> None:
    assert isinstance(efficiency_tree([], 1.0), Refusal)
    assert isinstance(efficiency_tree([0.0], 1.0), Refusal)
    refused = efficiency_tree([1.0], 0.9)
    assert isinstance(refused, Refusal) and "exceed" in refused.reason


def test_scaling_points() -> None:
    reference = Point(useful_sum_s=80, elapsed_s=100, ranks=1)
    strong = global_efficiency(
        reference, Point(useful_sum_s=100, elapsed_s=40, ranks=4), weak=False
    )
    assert strong.speed_up == pytest.approx(2.5)
    assert strong.overall == pytest.approx(0.625 * 0.8)
    weak = global_efficiency(reference, Point(useful_sum_s=320, elapsed_s=100, ranks=4), weak=True)
    assert (weak.speed_up, weak.computation_scalability) == pytest.approx((4.0, 1.0))

"""Bubbles by formula and by events must agree; schedules are recognised from their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline import pipeline as pp
from perfkit.roofline.pipeline import PassTimes, Shape, bubble, in_flight
from perfkit.roofline.schedule_recognition import recognise
from perfkit.roofline.schedule_simulation import Pass, orders, play

# p, m, backward, schedule, chunks: makespan, bubble over ideal (models_golden.json "pipeline")
GOLDEN = [
    (4, 8, 2, "gpipe", 1, 33.0, 0.375),
    (4, 8, 2, "1f1b", 1, 33.0, 0.375),
    (4, 8, 2, "interleaved", 2, 28.5, 0.1875),
    (4, 8, 2, "interleaved", 4, 26.25, 0.09375),
    (4, 8, 1, "gpipe", 1, 22.0, 0.375),
    (4, 8, 1, "interleaved", 2, 19.0, 0.1875),
    (4, 8, 1, "interleaved", 4, 17.5, 0.09375),
    (8, 32, 2, "1f1b", 1, 117.0, 0.21875),
    (8, 32, 2, "interleaved", 2, 106.5, 0.109375),
    (8, 32, 2, "interleaved", 4, 101.25, 0.0546875),
    (8, 32, 1, "gpipe", 1, 78.0, 0.21875),
    (8, 32, 1, "interleaved", 4, 67.5, 0.0546875),
    (8, 64, 2, "1f1b", 1, 213.0, 0.109375),
    (8, 64, 2, "interleaved", 2, 202.5, 0.0546875),
    (8, 64, 2, "interleaved", 4, 197.25, 0.0273438),
    (8, 64, 1, "interleaved", 4, 131.5, 0.0273438),
]


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_bubbles(case: tuple[int, int, float, str, int, float, float]) -> None:
    p, m, backward, schedule, chunks, span, share = case
    shape = Shape(stages=p, micro_batches=m, chunks=chunks)
    times = PassTimes(forward_s=1, backward_s=backward)
    by_formula = bubble(schedule, shape, times)
    by_events = play(orders(schedule, shape), [times] * p, shape)
    assert by_formula.makespan_s == by_events.makespan_s == pytest.approx(span)
    assert by_formula.over_ideal == pytest.approx(share, rel=1e-4)
    total = by_formula.bubble_s / by_formula.makespan_s
    assert by_formula.over_total == pytest.approx(total)


def test_the_two_denominators_of_the_literature() -> None:
    result = bubble("1f1b", Shape(stages=4, micro_batches=8), PassTimes(forward_s=1, backward_s=2))
    assert (result.over_ideal, result.over_total) == pytest.approx((0.375, 0.272727), rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "chunks", "expected"),
    [("gpipe", 1, (8, 8, 8, 8)), ("1f1b", 1, (4, 3, 2, 1)), ("interleaved", 2, (11, 9, 7, 5))],
)
def test_micro_batches_in_flight(schedule: str, chunks: int, expected: tuple[int, ...]) -> None:
    shape = Shape(stages=4, micro_batches=8, chunks=chunks)
    assert in_flight(schedule, shape) == expected
    times = [PassTimes(forward_s=1, backward_s=2)] * 4
    assert play(orders(schedule, shape), times, shape).in_flight == expected


@pytest.mark.parametrize(
    ("p", "m", "times", "expected"),
    [(4, 8, (1, 1, 1), 3.0), (4, 8, (1, 1.2, 0.8), 4.2), (8, 32, (1, 1, 1), 7.0)],
)
def test_zero_bubble_h1(p: int, m: int, times: tuple[float, float, float], expected: float) -> None:
    forward, inputs, weights = times
    passes = PassTimes(forward_s=forward, backward_s=inputs + weights, weight_s=weights)
    shape = Shape(stages=p, micro_batches=m)
    played = play(orders("zb-h1", shape), [passes] * p, shape)
    assert bubble("zb-h1", shape, passes).bubble_s == pytest.approx(expected)
    assert played.idle_s == pytest.approx((expected,) * p)
    assert played.in_flight == in_flight("zb-h1", shape) == (p,) * p
    without = bubble("1f1b", shape, passes).bubble_s
    assert without == pytest.approx((p - 1) * sum(times))


SHAPES = st.builds(
    lambda stages, groups, chunks: Shape(
        stages=stages, micro_batches=stages * groups, chunks=chunks
    ),
    st.integers(2, 6),
    st.integers(1, 4),
    st.integers(1, 3),
)


@given(
    shape=SHAPES,
    schedule=st.sampled_from(["naive", "gpipe", "1f1b", "interleaved"]),
    forward=st.floats(0.1, 10),
    backward=st.floats(0.1, 10),
)
def test_formula_and_events_agree_everywhere(
    shape: Shape, schedule: str, forward: float, backward: float
) -> None:
    if schedule != "interleaved":
        shape = Shape(stages=shape.stages, micro_batches=shape.micro_batches)
    times = PassTimes(forward_s=forward, backward_s=backward)
    played = play(orders(schedule, shape), [times] * shape.stages, shape)
    expected = bubble(schedule, shape, times)
    assert played.makespan_s == pytest.approx(expected.makespan_s)
    assert played.idle_s == pytest.approx((expected.bubble_s,) * shape.stages)


@given(shape=SHAPES, send=st.floats(0, 1), slow=st.floats(1, 5))
def test_a_slower_stage_or_link_never_helps(shape: Shape, send: float, slow: float) -> None:
    plain = Shape(stages=shape.stages, micro_batches=shape.micro_batches)
    even = [PassTimes(forward_s=1, backward_s=2)] * plain.stages
    uneven = [PassTimes(forward_s=slow, backward_s=2 * slow), *even[1:]]
    order = orders("1f1b", plain)
    base = play(order, even, plain).makespan_s
    assert play(order, even, plain, send_s=send).makespan_s >= base
    assert play(order, uneven, plain).makespan_s >= base


@given(shape=SHAPES, schedule=st.sampled_from(["gpipe", "1f1b", "interleaved", "zb-h1"]))
def test_a_schedule_is_recognised_from_its_order(shape: Shape, schedule: str) -> None:
    if schedule != "interleaved":
        shape = Shape(stages=shape.stages, micro_batches=shape.micro_batches)
    elif shape.chunks == 1:
        return
    seen = {s: [t.kind for t in order] for s, order in enumerate(orders(schedule, shape))}
    found = recognise(seen, shape.stages)
    assert (schedule, shape.chunks) in found.candidates
    if len(found.candidates) == 1:
        assert (found.schedule, found.exact) == (schedule, True)
        assert found.micro_batches == shape.micro_batches
    else:
        assert found.schedule is None


def test_what_is_enough_to_recognise() -> None:
    shape = Shape(stages=4, micro_batches=8)
    whole = {s: [t.kind for t in order] for s, order in enumerate(orders("1f1b", shape))}
    assert recognise(whole, 4).schedule == pp.ONE_F_ONE_B
    assert recognise({0: whole[0]}, 4).schedule == pp.ONE_F_ONE_B
    torn = {s: order[:5] + order[6:7] + order[5:6] + order[7:] for s, order in whole.items()}
    loose = recognise({0: torn[0]}, 4)
    assert (loose.schedule, loose.exact) == (pp.ONE_F_ONE_B, False)


def test_what_cannot_be_told_is_not_named() -> None:
    assert recognise({}, 4).schedule is None
    assert recognise({0: "FB", 1: "FFBB"}, 4).schedule is None
    assert "pair up" in recognise({0: "FFB"}, 4).reason
    one = recognise({s: "FB" for s in range(4)}, 4)
    assert one.schedule is None and len(one.candidates) > 1


def test_orders_that_wait_for_each_other_are_refused() -> None:
    shape = Shape(stages=2, micro_batches=1)
    times = [PassTimes(forward_s=1, backward_s=1)] * 2
    crossed = ((Pass("B", 0), Pass("F", 0)), (Pass("F", 0), Pass("B", 0)))
    with pytest.raises(ValueError, match="wait for each other"):
        play(crossed, times, shape)


def test_nonsense_is_refused() -> None:
    times = PassTimes(forward_s=1, backward_s=2)
    with pytest.raises(ValueError, match="multiples"):
        bubble("interleaved", Shape(stages=4, micro_batches=6, chunks=2), times)
    with pytest.raises(ValueError, match="unknown schedule"):
        bubble("dualpipe", Shape(stages=4, micro_batches=8), times)
    with pytest.raises(ValueError, match="unknown schedule"):
        in_flight("dualpipe", Shape(stages=4, micro_batches=8))
    with pytest.raises(ValueError, match="at least one"):
        Shape(stages=0, micro_batches=1)
    with pytest.raises(ValueError, match="whole backward"):
        PassTimes(forward_s=1, backward_s=1, weight_s=2)


def test_how_many_micro_batches_are_enough() -> None:
    assert pp.enough_micro_batches(4, 0.272728) == 8
    assert pp.enough_micro_batches(1, 0.1) == 1

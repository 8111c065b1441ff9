"""Interval sets against brute force on single nanoseconds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perfkit.trace import intervals as iv

Pairs = list[tuple[int, int]]

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


def points(pairs: Pairs) -> set[int]:
    return {t for start, length in pairs for t in range(start, start + length)}


def as_set(pairs: Pairs) -> iv.Intervals:
    return iv.union([s for s, _ in pairs], [s + n for s, n in pairs])


def covered(intervals: iv.Intervals) -> set[int]:
    return {t for start, end in intervals for t in range(start, end)}


def assert_canonical(intervals: iv.Intervals) -> None:
    assert intervals.shape == (len(intervals), 2)
    flat = intervals.ravel()
    assert (np.diff(flat) > 0).all(), "sorted, disjoint, not touching, none empty"


@given(spans, spans)
def test_set_algebra_equals_brute_force(a: Pairs, b: Pairs) -> None:
    x, y = as_set(a), as_set(b)
    for got, want in (
        (x, points(a)),
        (iv.join(x, y), points(a) | points(b)),
        (iv.intersect(x, y), points(a) & points(b)),
        (iv.subtract(x, y), points(a) - points(b)),
        (iv.clip(x, 10, 40), points(a) & set(range(10, 40))),
        (iv.gaps(x, 10, 40), set(range(10, 40)) - points(a)),
    ):
        assert_canonical(got)
        assert covered(got) == want
        assert iv.total_ns(got) == len(want)


@given(spans, st.lists(st.integers(-5, 90), max_size=20))
def test_labels_and_measures_equal_brute_force(a: Pairs, at: list[int]) -> None:
    x = as_set(a)
    for point, row, before in zip(at, iv.label(x, at), iv.measure_before(x, at), strict=True):
        assert (row >= 0) == (point in points(a))
        if row >= 0:
            assert x[row, 0] <= point < x[row, 1]
        assert before == len([t for t in points(a) if t < point])


@given(spans, spans)
def test_overlap_of_spans(a: Pairs, b: Pairs) -> None:
    x = as_set(a)
    got = iv.overlap_ns(x, [s for s, _ in b], [s + n for s, n in b])
    assert got.tolist() == [len(points(a) & points([span])) for span in b]


@given(spans)
def test_disjoint_keeps_the_union_and_counts_once(a: Pairs) -> None:
    ordered = sorted(a)
    parts = iv.disjoint([s for s, _ in ordered], [s + n for s, n in ordered])
    assert sum(int(e - s) for s, e in parts) == len(points(a))
    assert covered(parts) == points(a)


@given(spans, st.lists(spans, max_size=4), st.lists(st.integers(0, 80), max_size=3))
def test_paint_gives_every_nanosecond_its_first_layer(
    domain: Pairs, layers: list[Pairs], cuts: list[int]
) -> None:
    parts = iv.paint(
        as_set(domain), [(as_set(x), i) for i, x in enumerate(layers)], default=9, cuts=cuts
    )
    got: dict[int, int] = {}
    for start, end, value in zip(parts.start_ns, parts.end_ns, parts.label, strict=True):
        assert start < end
        assert not any(start < cut < end for cut in cuts)
        for t in range(start, end):
            assert t not in got, "each nanosecond once"
            got[t] = int(value)
    want = {t: next((i for i, x in enumerate(layers) if t in points(x)), 9) for t in points(domain)}
    assert got == want


def test_union_of_nothing_and_of_touching_spans() -> None:
    assert iv.union([], []).shape == (0, 2)
    assert iv.union([5, 0, 7], [7, 5, 7]).tolist() == [[0, 7]]


def test_empty_sets_are_neutral() -> None:
    x = iv.union([0], [10])
    assert iv.intersect(iv.EMPTY, x).shape == (0, 2)
    assert iv.subtract(x, iv.EMPTY).tolist() == [[0, 10]]
    assert iv.subtract(iv.EMPTY, iv.EMPTY).shape == (0, 2)
    assert iv.paint(iv.EMPTY, [], default=0).label.shape == (0,)

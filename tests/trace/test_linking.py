"""Links between events against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perfkit.trace import linking
from perfkit.trace.model import I64, NONE


def ints(values: list[int]) -> I64:
    return np.array(values, np.int64)


@st.composite
def nests(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Draw intervals that nest or follow one another, as calls on one thread do."""
    spans: list[tuple[int, int]] = []

    def fill(begin: int, end: int, depth: int) -> None:
        at = begin
        while at < end and depth < 5 and len(spans) < 40:
            start = draw(st.integers(at, end))
            stop = draw(st.integers(start, end))
            spans.append((start, stop))
            if draw(st.booleans()):
                fill(start, stop, depth + 1)
            at = stop + 1

    fill(0, draw(st.integers(1, 60)), 0)
    return sorted(spans, key=lambda span: (span[0], -span[1]))


@given(nests(), st.lists(st.integers(-5, 70), max_size=30))
def test_innermost_of_nested_calls(spans: list[tuple[int, int]], at: list[int]) -> None:
    start, end = ints([s for s, _ in spans]), ints([e for _, e in spans])
    found = linking.innermost(start, end, np.arange(len(spans)), ints(at))
    for time, row in zip(at, found.tolist(), strict=True):
        around = [i for i, (s, e) in enumerate(spans) if s <= time < e]
        if not around:
            assert row == NONE
            continue
        s, e = spans[row]
        assert s <= time < e
        assert e - s == min(spans[i][1] - spans[i][0] for i in around)


spans_that_overlap = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=30,
)


@given(spans_that_overlap, st.lists(st.integers(-5, 80), max_size=30))
def test_partial_overlaps_still_contain(spans: list[tuple[int, int]], at: list[int]) -> None:
    spans = sorted(spans, key=lambda span: (span[0], -span[1]))
    start, end = ints([s for s, _ in spans]), ints([e for _, e in spans])
    found = linking.innermost(start, end, np.arange(len(spans)), ints(at))
    for time, row in zip(at, found.tolist(), strict=True):
        is_inside = any(s <= time < e for s, e in spans)
        assert (row != NONE) == is_inside
        if is_inside:
            assert spans[row][0] <= time < spans[row][1]


@given(spans_that_overlap, st.lists(st.integers(-5, 80), max_size=30))
def test_covered(spans: list[tuple[int, int]], at: list[int]) -> None:
    spans = sorted(spans)
    start, end = ints([s for s, _ in spans]), ints([e for _, e in spans])
    expected = [any(s <= time < e for s, e in spans) for time in at]
    assert linking.covered(start, end, ints(at)).tolist() == expected


keys = st.lists(st.integers(-1, 9), max_size=20)


@given(keys, keys)
def test_match_keys(wanted: list[int], offered: list[int]) -> None:
    rows = np.arange(len(offered)) + 100
    found = linking.match_keys(ints(wanted), ints(offered), rows)
    for key, row in zip(wanted, found.tolist(), strict=True):
        expected = offered.index(key) + 100 if key > 0 and key in offered else NONE
        assert row == expected


@given(keys)
def test_by_thread(threads: list[int]) -> None:
    groups = linking.by_thread(ints(threads))
    assert sorted(i for group in groups for i in group.tolist()) == list(range(len(threads)))
    for group in groups:
        assert len({threads[i] for i in group.tolist()}) == 1
        assert (np.diff(group) > 0).all()


def test_repeated_correlations_need_nearly_all() -> None:
    same, other = ints([5, 6, 7, 8, 9, 10, 11, 12, 13, 1]), ints([5, 6, 7, 8, 9, 10, 11, 12, 13, 2])
    assert linking.external_ids_repeat_correlations(same, other)
    assert not linking.external_ids_repeat_correlations(same, ints([1] * 10))
    assert not linking.external_ids_repeat_correlations(ints([NONE]), ints([NONE]))
    assert not linking.external_ids_repeat_correlations(ints([]), ints([]))

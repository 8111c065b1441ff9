"""Sets of time on the integer nanosecond axis, vectorised.

A set is an int64 array of shape (n, 2): half-open intervals [start, end), sorted, disjoint and not
touching. A partition is a run of adjacent intervals, each with a label; it has no gaps within a
window. Everything is exact: no floating point, so parts add up to the whole to the nanosecond.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Intervals = NDArray[np.int64]
"""Shape (n, 2), sorted, disjoint, half-open."""

EMPTY: Final[Intervals] = np.empty((0, 2), dtype=np.int64)


def union(starts: ArrayLike, ends: ArrayLike) -> Intervals:
    """Merge any intervals into a set; empty and negative ones vanish, touching ones join."""
    start = np.asarray(starts, dtype=np.int64)
    end = np.asarray(ends, dtype=np.int64)
    keep = end > start
    start, end = start[keep], end[keep]
    if not len(start):
        return EMPTY
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    first = np.empty(len(start), dtype=np.bool_)
    first[0] = True
    first[1:] = start[1:] > reach[:-1]
    last = np.append(first[1:], True)
    return np.column_stack((start[first], reach[last]))


def join(*sets: Intervals) -> Intervals:
    """Return the union of several sets."""
    if not sets:
        return EMPTY
    both = np.concatenate(sets)
    return union(both[:, 0], both[:, 1])


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """Return the time in both sets."""
    start, end, in_a, in_b = _pieces(a, b)
    return union(start[in_a & in_b], end[in_a & in_b])


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """Return the time in `a` that is not in `b`."""
    start, end, in_a, in_b = _pieces(a, b)
    return union(start[in_a & ~in_b], end[in_a & ~in_b])


def clip(a: Intervals, start: int, end: int) -> Intervals:
    """Cut a set to [start, end)."""
    cut = np.clip(a, start, end)
    return cut[cut[:, 1] > cut[:, 0]]


def gaps(a: Intervals, start: int, end: int) -> Intervals:
    """Return the part of [start, end) that is not in the set."""
    return subtract(union([start], [end]), a)


def total_ns(a: Intervals) -> int:
    """Return the length of a set."""
    return int((a[:, 1] - a[:, 0]).sum())


def label(a: Intervals, points: ArrayLike) -> NDArray[np.int64]:
    """Find for each point the row of the interval that holds it, -1 where none does."""
    at = np.asarray(points, dtype=np.int64)
    if not len(a):
        return np.full(at.shape, -1, dtype=np.int64)
    row = np.searchsorted(a[:, 0], at, side="right") - 1
    inside = (row >= 0) & (at < a[row, 1])
    return np.where(inside, row, -1).astype(np.int64)


def measure_before(a: Intervals, points: ArrayLike) -> NDArray[np.int64]:
    """Measure the set before each point; differences give the length in a span."""
    at = np.asarray(points, dtype=np.int64)
    if not len(a):
        return np.zeros(at.shape, dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(a[:, 1] - a[:, 0])))
    row = np.searchsorted(a[:, 0], at, side="right")
    reached = np.where(row > 0, np.minimum(at, a[row - 1, 1]) - a[row - 1, 0], 0)
    return np.asarray(np.where(row > 0, before[row - 1] + reached, 0), dtype=np.int64)


def overlap_ns(a: Intervals, starts: ArrayLike, ends: ArrayLike) -> NDArray[np.int64]:
    """Measure the overlap of each span [start, end) with the set."""
    return measure_before(a, ends) - measure_before(a, starts)


def disjoint(starts: ArrayLike, ends: ArrayLike) -> NDArray[np.int64]:
    """Shorten spans that come sorted by start so that each nanosecond belongs to the first span.

    Returns shape (n, 2); a span that is wholly covered by earlier ones becomes empty. The union
    does not change.
    """
    start = np.asarray(starts, dtype=np.int64)
    end = np.asarray(ends, dtype=np.int64)
    if not len(start):
        return EMPTY
    reach = np.maximum.accumulate(end)
    own = start.copy()
    own[1:] = np.maximum(start[1:], reach[:-1])
    return np.column_stack((own, np.maximum(own, end)))


@dataclass(frozen=True, slots=True)
class Partition:
    """Labelled intervals in order, shape (n,) each; only between windows may they leave gaps."""

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    label: NDArray[np.int8]

    def of(self, *labels: int) -> Intervals:
        """Return the time under any of these labels."""
        rows = np.isin(self.label, labels)
        return union(self.start_ns[rows], self.end_ns[rows])


def paint(
    domain: Intervals, layers: list[tuple[Intervals, int]], *, default: int, cuts: ArrayLike = ()
) -> Partition:
    """Give each nanosecond of the domain the label of the first layer that holds it.

    `cuts` are points at which the partition is split in any case, such as the ends of windows;
    elsewhere neighbours with the same label join.
    """
    points = [domain.ravel(), np.asarray(cuts, dtype=np.int64)]
    points += [layer.ravel() for layer, _ in layers]
    edges = np.unique(np.concatenate(points))
    if len(edges) < 2:
        nothing = np.empty(0, dtype=np.int64)
        return Partition(nothing, nothing, np.empty(0, dtype=np.int8))
    start, end = edges[:-1], edges[1:]
    inside = label(domain, start) >= 0
    start, end = start[inside], end[inside]
    value = np.full(len(start), default, dtype=np.int8)
    for layer, code in reversed(layers):
        value[label(layer, start) >= 0] = code
    return _join_equal(Partition(start, end, value), np.asarray(cuts, dtype=np.int64))


def _join_equal(parts: Partition, cuts: NDArray[np.int64]) -> Partition:
    if not len(parts.label):
        return parts
    first = np.empty(len(parts.label), dtype=np.bool_)
    first[0] = True
    first[1:] = (parts.label[1:] != parts.label[:-1]) | (parts.start_ns[1:] != parts.end_ns[:-1])
    first |= np.isin(parts.start_ns, cuts)
    last = np.append(first[1:], True)
    return Partition(parts.start_ns[first], parts.end_ns[last], parts.label[first])


def _pieces(
    a: Intervals, b: Intervals
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    edges = np.unique(np.concatenate((a.ravel(), b.ravel())))
    start, end = edges[:-1], edges[1:]
    return start, end, label(a, start) >= 0, label(b, start) >= 0

"""Finds which launch caused device work, and which operator a call ran in.

Pure functions on arrays. Times are integer nanoseconds; rows are indices into one event table.
"""

import numpy as np

from perfkit.trace.model import I32, I64, NONE, Bool


def match_keys(wanted: I64, keys: I64, rows: I64) -> I32:
    """Return for each wanted key the row of the first equal key, or NONE.

    `wanted` has shape (m,), `keys` and `rows` shape (n,); NONE and 0 match nothing.
    """
    found = np.full(len(wanted), NONE, np.int32)
    if not len(keys) or not len(wanted):
        return found
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], wanted)
    at = np.minimum(at, len(keys) - 1)
    hit = (keys[order][at] == wanted) & (wanted > 0)
    found[hit] = rows[order][at[hit]]
    return found


def external_ids_repeat_correlations(external: I64, correlation: I64) -> bool:
    """Whether "External id" is merely the correlation id, as written from 2022 to Feb 2024.

    Both have shape (n,), of device work. True if nearly all that have both are equal.
    """
    both = (external > 0) & (correlation > 0)
    count = int(both.sum())
    return count > 0 and int((external[both] == correlation[both]).sum()) >= 0.9 * count


def innermost(start: I64, end: I64, rows: I64, at: I64) -> I32:
    """Return for each time `at` (m,) the row of the innermost interval that contains it, or NONE.

    The n intervals [start, end) belong to one thread and are sorted by start, longer first. They
    nest, but a few that overlap partly do no harm: those times are looked up one by one.
    """
    found = np.full(len(at), NONE, np.int32)
    lasting = end > start
    start, end, rows = start[lasting], end[lasting], rows[lasting]
    if not len(start) or not len(at):
        return found
    begun = np.arange(1, len(start) + 1)
    ends = np.sort(end)
    depth = begun - np.searchsorted(ends, start, side="right")
    last = np.searchsorted(start, at, side="right")  # intervals [0, last) have begun
    open_now = last - np.searchsorted(ends, at, side="right")
    # The innermost open interval is the latest begun one whose depth is the number open.
    count = len(start) + 1
    keys = depth * count + np.arange(len(start))
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], open_now * count + last) - 1
    hit = np.where(place >= 0, order[place], 0)
    inside = (open_now > 0) & (place >= 0) & (start[hit] <= at) & (at < end[hit])
    found[inside] = rows[hit[inside]]
    for lost in np.flatnonzero((open_now > 0) & ~inside):
        found[lost] = _walk(start, end, rows, int(at[lost]), int(last[lost]))
    return found


def _walk(start: I64, end: I64, rows: I64, at: int, last: int) -> int:
    for index in range(last - 1, max(last - 10_000, 0) - 1, -1):
        if start[index] <= at < end[index]:
            return int(rows[index])
    return NONE


def covered(start: I64, end: I64, at: I64) -> Bool:
    """Return whether each time `at` lies in any of the intervals, sorted by start."""
    if not len(start):
        return np.zeros(len(at), np.bool_)
    reach = np.maximum.accumulate(end)
    before = np.searchsorted(start, at, side="right") - 1
    return (before >= 0) & (at < reach[np.maximum(before, 0)])


def by_thread(thread: I64) -> list[I64]:
    """Return the indices of each distinct thread, in ascending order within each."""
    if not len(thread):
        return []
    order = np.argsort(thread, kind="stable")
    cuts = np.flatnonzero(np.diff(thread[order])) + 1
    return list(np.split(order, cuts))

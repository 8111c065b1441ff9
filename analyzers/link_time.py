"""How long each call had the link: time that transfers of one group share is divided among them.

gloo runs two collectives of a group at a time over one link. Each lasts twice as long then, and
adding their durations counts the link twice: bandwidths would be half of what they are.
"""

from collections.abc import Iterator

import numpy as np

from perfkit.analyzers.blame import F64
from perfkit.analyzers.calls import Calls
from perfkit.analyzers.collective_split import RankSplit
from perfkit.trace.intervals import EMPTY, Intervals, overlap_ns
from perfkit.trace.model import I64


def link_ns(calls: Calls, split: RankSplit) -> F64:
    """Return the nanoseconds of the link that each call of a rank used; shape (calls,).

    A nanosecond in which n transfers of the same group are under way counts 1/n for each. Waiting
    does not use the link. Unmatched calls get nan.
    """
    found = np.where(split.matched, 0.0, np.nan)
    for own in _by_group(calls, np.flatnonzero(split.matched)):
        found[own] = _shared(split.wait_end_ns[own], calls.end_ns[own])
    return found


def once_ns(calls: Calls, hidden: Intervals = EMPTY) -> F64:
    """Return the nanoseconds of each whole call, waiting included, counted once a group.

    As link_ns, of all calls, matched or not; the sum over a group's calls is the time in which any
    of them is under way, less the `hidden` intervals (sorted, disjoint). Shape (calls,).
    """
    found = np.zeros(len(calls))
    for own in _by_group(calls, np.arange(len(calls))):
        found[own] = _shared(calls.start_ns[own], calls.end_ns[own], hidden)
    return found


def _by_group(calls: Calls, rows: I64) -> Iterator[I64]:
    """Yield those rows of each group that has any."""
    groups: dict[object, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(calls.group[row], []).append(row)
    yield from map(np.array, groups.values())


def _shared(start: I64, end: I64, hidden: Intervals = EMPTY) -> F64:
    """Divide every nanosecond outside `hidden` among the intervals that cover it."""
    cuts = np.unique(np.concatenate((start, end)))
    depth = np.zeros(len(cuts))
    np.add.at(depth, np.searchsorted(cuts, start), 1)
    np.add.at(depth, np.searchsorted(cuts, end), -1)
    depth = np.cumsum(depth)[:-1]
    counted = np.diff(cuts) - overlap_ns(hidden, cuts[:-1], cuts[1:])
    share = np.divide(counted, depth, out=np.zeros(len(depth)), where=depth > 0)
    before = np.concatenate(([0.0], np.cumsum(share)))
    return np.asarray(before[np.searchsorted(cuts, end)] - before[np.searchsorted(cuts, start)])

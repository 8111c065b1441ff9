"""Split each matched collective into waiting for the last rank and transferring data.

Symmetric operations: nobody finishes before the last has arrived, so the shortest stay is the
transfer and the rest of a longer stay is wait, without comparing clocks (models.md 1.3):

    T_i = min_r duration_ir        wait_ir = duration_ir - T_i        tau_ir = end_ir - T_i

Asymmetric ones (broadcast, reduce, gather, scatter) let a rank leave early, which would make T_i
too small; there the wait is also bounded by how much later the last rank arrived, on aligned
clocks, and stays unknown where clocks cannot be aligned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import POINT_TO_POINT, SYMMETRIC, Calls
from perfkit.analyzers.clocks import DomainClock
from perfkit.analyzers.matching import Instance
from perfkit.trace.intervals import Intervals, disjoint, union
from perfkit.trace.model import I64, NONE, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTimes:
    """Per matched collective, shape (n,): its transfer time and who came last."""

    transfer_ns: I64
    last_rank: I64
    known: Bool  # the split could be made


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSplit:
    """One rank's calls split; shape (calls,)."""

    instance: I64  # NONE: unmatched, or the split is unknown
    wait_end_ns: I64  # tau: until here the call waited, from here it transferred
    bubble: Bool  # the wait is a pipeline bubble

    @property
    def matched(self) -> Bool:
        """The calls whose time can be told apart."""
        return np.asarray(self.instance != NONE)


def split_instances(
    calls: Mapping[int, Calls],
    instances: Sequence[Instance],
    clocks: Mapping[int, DomainClock | None],
) -> tuple[InstanceTimes, dict[int, RankSplit]]:
    """Split all matched collectives.

    `clocks` are those of the ranks, None where unknown or not to be trusted; they serve asymmetric
    operations only.
    """
    n = len(instances)
    transfer = np.zeros(n, dtype=np.int64)
    last = np.full(n, NONE, dtype=np.int64)
    known = np.zeros(n, dtype=np.bool_)
    instance_of = {r: np.full(len(t), NONE, dtype=np.int64) for r, t in calls.items()}
    wait_end = {rank: table.end_ns.copy() for rank, table in calls.items()}
    for number, instance in enumerate(instances):
        waits = _waits(calls, instance, clocks)
        if waits is None:
            continue
        known[number] = True
        stays = [int(calls[rank].duration_ns[row]) for rank, row in instance.members]
        transfer[number] = min(stays)
        last[number] = instance.members[int(np.argmin(waits))][0]
        for (rank, row), wait in zip(instance.members, waits, strict=True):
            instance_of[rank][row] = number
            wait_end[rank][row] = calls[rank].start_ns[row] + wait
    splits = {
        rank: RankSplit(
            instance=instance_of[rank],
            wait_end_ns=wait_end[rank],
            bubble=np.array([op in POINT_TO_POINT for op in table.op], dtype=np.bool_),
        )
        for rank, table in calls.items()
    }
    return InstanceTimes(transfer_ns=transfer, last_rank=last, known=known), splits


def _waits(
    calls: Mapping[int, Calls], instance: Instance, clocks: Mapping[int, DomainClock | None]
) -> list[int] | None:
    stays = [int(calls[rank].duration_ns[row]) for rank, row in instance.members]
    by_stay = [stay - min(stays) for stay in stays]
    if instance.op in SYMMETRIC or instance.op in POINT_TO_POINT:
        return by_stay
    arrivals = []
    for rank, row in instance.members:
        clock, start = clocks.get(rank), int(calls[rank].start_ns[row])
        offset = clock.offset_at(start) if clock is not None else None
        if offset is None:
            return None
        arrivals.append(start + offset)
    return [min(w, max(arrivals) - a) for w, a in zip(by_stay, arrivals, strict=True)]


def comm_intervals(calls: Calls, split: RankSplit) -> tuple[Intervals, Intervals, Intervals]:
    """Return a rank's time in transfer, in pipeline bubbles and in other waits."""
    known, bubble = split.matched, split.bubble
    transfer = union(split.wait_end_ns[known], calls.end_ns[known])
    waits = [known & bubble, known & ~bubble]
    bubbles, others = (union(calls.start_ns[rows], split.wait_end_ns[rows]) for rows in waits)
    return transfer, bubbles, others


def disjoint_waits(calls: Calls, split: RankSplit) -> tuple[I64, Intervals]:
    """Return the rows that wait and, for each, the part that no earlier call already waits for."""
    rows = np.flatnonzero(split.matched & ~split.bubble)
    return rows, disjoint(calls.start_ns[rows], split.wait_end_ns[rows])

"""How much slower compute runs beside a transfer than alone: cores, memory or SMs are shared.

The same work is compared with itself: kernels (on a CPU: operators without operators inside) of
one name and shape, those wholly beside a collective against those wholly away from one. kappa =
sum(n (median beside - median alone)) / sum(n median alone) over the kinds of work that were seen
in both ways (Echo's slow-down, arXiv 2412.12487; models.md 4.5). In DDP the first layers'
gradients are computed beside transfers and the last layers' are not, so equal layers supply both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.trace.intervals import overlap_ns, union
from perfkit.trace.kinds import Kind
from perfkit.trace.model import RankTrace

BESIDE, AWAY = 0.9, 0.1
"""Shares of an event's time under a transfer from which on it counts as beside it, or alone."""
LEAST = 3
"""Events of a kind of work, in either way, without which it tells nothing."""
MATTERS_NS = 1_000_000
"""Comparable work below this says nothing of a run."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What one rank tells: sums over its whole steps."""

    excess_ns: float  # beyond what the same work takes alone
    alone_ns: float  # of that work
    overlapped_ns: int  # compute beside transfers, comparable or not
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """factor: kappa, 0.2 where compute beside transfers takes 20 % longer; below 0 is noise.

    ms_per_step: what that adds to a step, mean over ranks; 0 where the factor is not positive.
    """

    factor: float
    ms_per_step: float


def beside_of(trace: RankTrace) -> Beside:
    """Return what one rank's whole steps tell."""
    events = trace.events
    transfers = trace.collectives.event
    busy = union(events.start_ns[transfers], events.end_ns[transfers])
    complete = trace.steps.index[trace.steps.complete & ~trace.steps.has_eval]
    rows = _work(trace)
    rows = rows[np.isin(events.step[rows], complete) & (events.duration_ns[rows] > 0)]
    covered = overlap_ns(busy, events.start_ns[rows], events.end_ns[rows])
    share = covered / np.maximum(events.duration_ns[rows], 1)
    excess, alone = _compare(trace, rows, share)
    return Beside(
        excess_ns=excess, alone_ns=alone, overlapped_ns=int(covered.sum()), steps=len(complete)
    )


def join_beside(ranks: Sequence[Beside]) -> Contention | None:
    """Put ranks together; None where too little work was seen both beside transfers and alone."""
    alone = sum(rank.alone_ns for rank in ranks)
    steps = sum(rank.steps for rank in ranks)
    if alone < MATTERS_NS or not steps:
        return None
    factor = sum(rank.excess_ns for rank in ranks) / alone
    share = max(factor, 0.0) / (1 + max(factor, 0.0))
    overlapped = sum(rank.overlapped_ns for rank in ranks)
    return Contention(factor=factor, ms_per_step=share * overlapped / steps / 1e6)


def _work(trace: RankTrace) -> Rows:
    """Return kernels, or on a CPU the innermost operators of the training threads."""
    events = trace.events
    if trace.device_kind != "cpu":
        return np.flatnonzero(events.kind == Kind.KERNEL)
    found = []
    for thread in trace.training_threads:
        own = np.flatnonzero((events.kind == Kind.OP) & (events.thread == thread))
        following = np.append(events.start_ns[own[1:]], np.iinfo(np.int64).max)
        found.append(own[events.end_ns[own] <= following])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _compare(trace: RankTrace, rows: Rows, share: NDArray[np.float64]) -> tuple[float, float]:
    """Return the excess of work beside transfers over the same work alone, and the latter."""
    events = trace.events
    shaped = rows
    if trace.device_kind != "cpu":  # a kernel's shape is that of the operator that launched it
        shaped = np.where(events.op[rows] >= 0, events.op[rows], rows)
    kinds = np.stack((events.name[rows], events.shape[shaped]), axis=1)
    excess = alone = 0.0
    _, group = np.unique(kinds, axis=0, return_inverse=True)
    for number in range(int(group.max()) + 1 if len(group) else 0):
        mine = group.ravel() == number
        slow = events.duration_ns[rows[mine & (share >= BESIDE)]]
        free = events.duration_ns[rows[mine & (share <= AWAY)]]
        if len(slow) >= LEAST and len(free) >= LEAST:
            usual = float(np.median(free))
            excess += len(slow) * (float(np.median(slow)) - usual)
            alone += len(slow) * usual
    return excess, alone

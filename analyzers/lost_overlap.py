"""Charge transfers that a late rank leaves exposed on the others to what made it late.

Ranks that wait go on computing meanwhile. When the late rank has come, they have nothing left to
hide the transfers under, which it still has: what they have exposed beyond it is lost overlap, as
far as they waited for it. Without the lateness it would be hidden; a faster network is no cure.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.attribution import N_CLASSES
from perfkit.analyzers.blame import F64, Charges, RankView
from perfkit.analyzers.collective_split import InstanceTimes, disjoint_waits
from perfkit.trace.intervals import label
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class LostOverlap:
    """Exposed transfer in nanoseconds over all ranks, by what made it so.

    per_step: (steps, classes), at most the COMM_TRANSFER of the step, from which it is to be taken.
    by_rank: (late rank, class) -> ns.
    """

    per_step: F64
    by_rank: Mapping[tuple[int, TimeClass], float]


def lost_overlap(
    views: Mapping[int, RankView],
    tables: Mapping[int, I64],
    times: InstanceTimes,
    charges: Charges,
) -> LostOverlap:
    """Find the transfers that lateness left exposed.

    tables: per rank (steps, classes) before blame. The late rank of a step is the one that others
    waited for longest, hidden or not; the causes are those of these waits.
    """
    ranks, steps = charges.ranks, len(charges.unknown)
    moved = np.zeros((steps, N_CLASSES))
    by_rank: dict[tuple[int, TimeClass], float] = defaultdict(float)
    late = charges.latest
    if len(ranks) < 2 or not (late != NONE).any():
        return LostOverlap(per_step=moved, by_rank=by_rank)
    waited = np.stack([_waited_ns(views[r], times, late) for r in ranks], axis=1)
    exposed = np.stack([tables[r][:, TimeClass.COMM_TRANSFER] for r in ranks], axis=1)
    natural = exposed[np.arange(steps), np.searchsorted(ranks, late).clip(0)]
    lost = np.clip(exposed - natural[:, None], 0, waited).sum(axis=1)
    for step, amount in enumerate(lost.tolist()):
        rank = int(late[step])
        causes = charges.causes.get((step, rank))
        if amount > 0 and causes is not None:
            moved[step] = amount * causes / causes.sum()
            for time_class in np.flatnonzero(causes).tolist():
                by_rank[rank, TimeClass(time_class)] += float(moved[step, time_class])
    return LostOverlap(per_step=moved, by_rank=dict(by_rank))


def _waited_ns(view: RankView, times: InstanceTimes, late: I64) -> I64:
    """Return for each step how long this rank waited, hidden or not, for the step's late rank."""
    rows, waits = disjoint_waits(view.calls, view.split)
    step = label(view.windows.intervals, waits[:, 0])
    inside = step >= 0
    numbers = view.split.instance[rows]
    inside[inside] &= times.last_rank[numbers[inside]] == late[step[inside]]
    found = np.zeros(len(late), dtype=np.int64)
    np.add.at(found, step[inside], (waits[:, 1] - waits[:, 0])[inside])
    return found

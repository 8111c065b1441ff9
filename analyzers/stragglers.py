"""Which rank is late, because of what, and how often.

The cause is the class that most of the waiting for this rank is charged to; the excess is the
rank's time in that class over the median rank's: of an even number of ranks the lower of the two in
the middle, which for a late rank is the median of the others. (Halfway between two ranks, half of
the excess would be lost.) In every step some rank is last, so being last counts only where it
happens too often for chance. That one rank alone writes checkpoints is none.
"""

from collections.abc import Mapping
from math import comb, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from perfkit.analyzers.blame import BLAMABLE, F64, Charges
from perfkit.analyzers.result import Straggler
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64

LEAST_SHARE = 0.03
"""A straggler exceeds the median rank by this share of the mean window; so do the waits."""
CHANCE = 0.02
"""Probability below which it is no chance: that a rank is last this often (binomial), and that its
time exceeds the others' by this much, by how much steps differ (t); divided among the ranks
(Bonferroni)."""
_WORK_BEHIND = {
    TimeClass.INPUT_WAIT: TimeClass.INPUT_WAIT,
    TimeClass.HOST_GC: TimeClass.HOST_GC,
    TimeClass.HOST_LAUNCH: TimeClass.HOST_LAUNCH,
    TimeClass.LAUNCH_LATENCY: TimeClass.HOST_LAUNCH,
}
"""What a host spends its time on where its device is idle because of it."""


def find_stragglers(
    tables: Mapping[int, I64],
    window_ns: Mapping[int, I64],
    charges: Charges,
    *,
    lost: Mapping[tuple[int, TimeClass], float] | None = None,
    host_ns: Mapping[int, Mapping[TimeClass, I64]] | None = None,
) -> tuple[Straggler, ...]:
    """Compare each rank that others wait for with the median rank.

    tables: per rank (steps, classes) in nanoseconds before blame; window_ns: per rank (steps,).
    lost: what the others' transfers lost of their overlap because of a rank and its class, in
    nanoseconds over all ranks and steps; it counts like their waits.
    host_ns: of runs on devices, what each host did in each step, hidden or not. Where all hosts are
    equally slow, one is behind by chance and stays so, and only its device is seen to idle: so a
    host is late only if it works longer as well, by more than steps differ.
    """
    ranks = tuple(sorted(tables))
    steps = len(charges.unknown)
    if len(ranks) < 2 or not steps:
        return ()
    means = np.stack([tables[r].mean(axis=0) for r in ranks])
    least = LEAST_SHARE * float(np.mean([window_ns[r].mean() for r in ranks]))
    last = times_last(charges)
    found = []
    for place, rank in enumerate(ranks):
        blamed = {c: charges.by_rank.get((rank, c), 0.0) for c in BLAMABLE}
        cause = max(BLAMABLE, key=lambda c: (blamed[c], -c))
        amount = over_median(means[:, cause], place)
        costs = blamed[cause] + (lost or {}).get((rank, cause), 0.0)
        waited = costs / steps / (len(ranks) - 1)
        often = by_chance(last[rank], steps, len(ranks)) < CHANCE / len(ranks)
        chosen = cause == TimeClass.CHECKPOINT and means[:, cause].max() == means[:, cause].sum()
        done = _work_of(tables, host_ns, cause)
        work = over_median(done.mean(axis=1), place)
        sure = often and exceeds_by_chance(done, place) < CHANCE / len(ranks)
        if min(amount, waited, work) >= least and (sure or chosen):
            found.append(
                Straggler(
                    rank=rank,
                    class_=TimeClass(cause).key,
                    excess_ms=amount / 1e6,
                    share_of_steps=last[rank] / steps,
                )
            )
    found.sort(key=lambda s: (-s.excess_ms, s.rank))
    return tuple(found)


def _work_of(
    tables: Mapping[int, I64],
    host_ns: Mapping[int, Mapping[TimeClass, I64]] | None,
    cause: TimeClass,
) -> F64:
    """Return (ranks, steps): what each rank did of this cause, by its host where that is known."""
    behind = _WORK_BEHIND.get(cause)
    if host_ns is None or behind is None:
        return np.stack([tables[r][:, cause] for r in sorted(tables)]).astype(np.float64)
    return np.stack([host_ns[r][behind] for r in sorted(tables)]).astype(np.float64)


def exceeds_by_chance(work: F64, place: int) -> float:
    """Return the probability of this rank's mean excess over the others' median, if all are alike.

    work: (ranks, steps). A one-sided t test over the steps; 0 where a single step allows none, or
    where all steps agree.
    """
    excess = work[place] - np.median(np.delete(work, place, axis=0), axis=0)
    if len(excess) < 2 or np.ptp(excess) == 0:
        return 0.0 if excess.mean() > 0 else 1.0
    error = float(excess.std(ddof=1)) / sqrt(len(excess))
    return float(stats.t.sf(float(excess.mean()) / error, len(excess) - 1))


def over_median(values: ArrayLike, place: int) -> float:
    """Return by how much one value exceeds the median, the lower one of an even number."""
    found = np.asarray(values, dtype=np.float64)
    return float(found[place] - np.sort(found)[(len(found) - 1) // 2])


def times_last(charges: Charges) -> dict[int, int]:
    """Count for each rank the steps in which the others waited longest for it."""
    waited = charges.lateness.sum(axis=1) > 0
    late = charges.lateness.argmax(axis=1)[waited] if len(charges.ranks) else np.empty(0)
    return {rank: int((late == column).sum()) for column, rank in enumerate(charges.ranks)}


def usually_late(charges: Charges) -> int | None:
    """Return the rank that is last too often for chance, None where there is none.

    Where the steps are too few for any rank to stand out, it must be last in all of them.
    """
    steps, ranks = len(charges.unknown), len(charges.ranks)
    for rank, count in times_last(charges).items():
        always = 0 < steps == count
        if always or (count and by_chance(count, steps, ranks) < CHANCE / ranks):
            return rank
    return None


def by_chance(count: int, steps: int, ranks: int) -> float:
    """Return the probability to be last in at least `count` steps if all ranks are alike."""
    p = 1.0 / ranks
    return sum(comb(steps, k) * p**k * (1 - p) ** (steps - k) for k in range(count, steps + 1))

"""Which rank is late, because of what, and how often.

The cause is the class that most of the waiting for this rank is charged to; the excess is the
rank's time in that class over the median rank's: of an even number of ranks the lower of the two in
the middle, which for a late rank is the median of the others. (Halfway between two ranks, half of
the excess would be lost.) In every step some rank is last, so being last counts only where it
happens too often for chance. That one rank alone writes checkpoints is none.
"""

from collections.abc import Mapping
from math import comb, inf

import numpy as np
from numpy.typing import ArrayLike

from perfkit.analyzers.blame import BLAMABLE, Charges
from perfkit.analyzers.result import Straggler
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64

LEAST_SHARE = 0.05
"""A straggler exceeds the median rank by this share of the mean window; so do the waits."""
CHANCE = 0.02
"""Probability below which no rank is last this often by chance: a binomial test of each rank, the
level divided among the ranks (Bonferroni)."""
_WORK_BEHIND = {
    TimeClass.INPUT_WAIT: TimeClass.INPUT_WAIT,
    TimeClass.HOST_LAUNCH: TimeClass.HOST_LAUNCH,
    TimeClass.LAUNCH_LATENCY: TimeClass.HOST_LAUNCH,
}
"""What a host spends its time on where its device is idle because of it."""


def find_stragglers(
    tables: Mapping[int, I64],
    window_ns: Mapping[int, I64],
    charges: Charges,
    host_ns: Mapping[int, Mapping[TimeClass, float]] | None = None,
) -> tuple[Straggler, ...]:
    """Compare each rank that others wait for with the median rank.

    tables: per rank (steps, classes) in nanoseconds before blame; window_ns: per rank (steps,).
    host_ns: of runs on devices, what each host did per step, hidden or not. Where all hosts are
    equally slow, one is behind by chance and stays so, and only its device is seen to idle: so a
    host is late only if it works longer as well.
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
        waited = blamed[cause] / steps / (len(ranks) - 1)
        often = by_chance(last[rank], steps, len(ranks)) < CHANCE / len(ranks)
        chosen = cause == TimeClass.CHECKPOINT and means[:, cause].max() == means[:, cause].sum()
        host = _host_excess(host_ns, rank, cause)
        if min(amount, waited, host) >= least and (often or chosen):
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


def _host_excess(
    host_ns: Mapping[int, Mapping[TimeClass, float]] | None, rank: int, cause: TimeClass
) -> float:
    """Return how much longer than the median host this one works; infinite if that is not known."""
    work = _WORK_BEHIND.get(cause)
    if host_ns is None or work is None:
        return inf
    return over_median([own[work] for own in host_ns.values()], list(host_ns).index(rank))


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

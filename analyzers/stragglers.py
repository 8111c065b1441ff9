"""Which rank is late, because of what, and how often.

The cause is the class that most of the waiting for this rank is charged to; the excess is the
rank's time in that class over the median rank's.
"""

from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.blame import BLAMABLE, Charges
from perfkit.analyzers.result import Straggler
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64

LEAST_EXCESS_SHARE = 0.03
"""A rank straggles if it exceeds the median rank by this share of the mean window ..."""
LEAST_LATE_SHARE = 0.5
"""... and is the one that the others wait for longest in this share of the steps."""


def find_stragglers(
    tables: Mapping[int, I64], window_ns: Mapping[int, I64], charges: Charges
) -> tuple[Straggler, ...]:
    """Compare each rank that others wait for with the median rank.

    tables: per rank (steps, classes) in nanoseconds before blame; window_ns: per rank (steps,).
    """
    ranks = tuple(sorted(tables))
    if len(ranks) < 2 or not len(tables[ranks[0]]):
        return ()
    means = np.stack([tables[r].mean(axis=0) for r in ranks])
    excess = means - np.median(means, axis=0)
    window = float(np.mean([window_ns[r].mean() for r in ranks]))
    waited = charges.lateness.sum(axis=1) > 0
    late = np.where(waited, charges.lateness.argmax(axis=1), -1) if charges.ranks else None
    found = []
    for place, rank in enumerate(ranks):
        blamed = {c: charges.by_rank.get((rank, c), 0.0) for c in BLAMABLE}
        cause = max(BLAMABLE, key=lambda c: (blamed[c], -c))
        share = _share(late, charges, rank)
        amount = float(excess[place, cause])
        if amount >= LEAST_EXCESS_SHARE * window and share >= LEAST_LATE_SHARE:
            found.append(
                Straggler(
                    rank=rank,
                    class_=TimeClass(cause).key,
                    excess_ms=amount / 1e6,
                    share_of_steps=share,
                )
            )
    found.sort(key=lambda s: (-s.excess_ms, s.rank))
    return tuple(found)


def _share(late: I64 | None, charges: Charges, rank: int) -> float:
    if late is None or rank not in charges.ranks or not len(late):
        return 0.0
    return float((late == charges.ranks.index(rank)).mean())

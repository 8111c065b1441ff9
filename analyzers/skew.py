"""Whether a rank is late by more than the ends of collectives can be trusted.

Who arrived last is read from who stayed shortest, which holds as far as all members leave together.
Where the ends of a collective differ by as much as the waits do, the shortest stay is chance.
"""

from collections.abc import Iterable

import numpy as np

from perfkit.analyzers.join import Joined
from perfkit.trace.model import I64


def unsure_ranks(ranks: Iterable[int], joined: Joined) -> frozenset[int]:
    """Return those of the ranks whose lateness does not exceed the residual of the clocks."""
    known = [c.residual_ns for c in joined.clocks if c.residual_ns is not None]
    residual = max(known, default=0)
    return frozenset(rank for rank in ranks if typical_skew_ns(rank, joined) <= residual)


def typical_skew_ns(rank: int, joined: Joined) -> float:
    """Return how much later than the first the rank enters the collectives in which it is last.

    The median weighted by the wait itself: one long wait a step counts, however many collectives
    without one follow.
    """
    skew = _skews(joined)[joined.times.last_rank == rank]
    skew = np.sort(skew)
    total = np.cumsum(skew)
    if not len(total) or total[-1] <= 0:
        return 0.0
    return float(skew[int(np.searchsorted(total, total[-1] / 2))])


def _skews(joined: Joined) -> I64:
    """Return for each matched collective the longest less the shortest stay of its members."""
    skews = np.zeros(len(joined.instances), dtype=np.int64)
    for number, instance in enumerate(joined.instances):
        stays = [int(joined.views[r].calls.duration_ns[row]) for r, row in instance.members]
        skews[number] = max(stays) - min(stays)
    return skews

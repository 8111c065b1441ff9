"""By how much the clock of each clock domain differs from the reference.

All members of a symmetric collective leave it at nearly the same moment, so the median difference
of their ends is the offset of their clocks (models.md 1.4); over more than a minute clocks also
drift, and the slope of the differences is fitted (Theil-Sen). Nobody leaves before everybody has
entered: that bounds every offset from both sides, whatever the noise of the ends, and an estimate
outside the bounds is moved into them. Hosts leave gloo collectives when their threads are
scheduled, which on one and the same clock differs by milliseconds: ends of host transfers are never
trusted below one millisecond. Within one domain the offset is 0 by definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.calls import SYMMETRIC, Calls
from perfkit.analyzers.matching import Instance
from perfkit.trace.model import I64

F64 = NDArray[np.float64]

HOST_RESIDUAL_NS = 1_000_000
"""The least uncertainty of an offset that rests on the ends of host transfers (gloo)."""
DRIFT_SPAN_NS = 60_000_000_000
"""Clocks of machines differ by parts per million in speed: over less time it does not show."""
MOST_POINTS = 500
"""Theil-Sen compares all pairs of points; of more collectives an even selection is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainClock:
    """What to add to this domain's clock to reach the reference; None where nothing shows it.

    offset_ns holds at at_ns of the domain's own clock and changes by drift nanoseconds a nanosecond
    from there. residual_ns: how far ends still differ (median). checked, infeasible: symmetric
    collectives with members in both domains, and how many of them even the best offset makes end
    before they began on some rank.
    """

    domain: str
    offset_ns: int | None
    residual_ns: int | None
    drift: float | None = None  # None: the capture is too short to show it
    at_ns: int = 0
    checked: int = 0
    infeasible: int = 0

    def offset_at(self, time_ns: int) -> int | None:
        """Return the offset at a time of this domain's clock."""
        if self.offset_ns is None or self.drift is None:
            return self.offset_ns
        return self.offset_ns + round(self.drift * (time_ns - self.at_ns))


@dataclass(frozen=True, slots=True)
class _Meeting:
    """When the members of one collective in one domain first and last entered and left it."""

    last_start: int
    first_end: int
    middle_end: int


def align_clocks(
    calls: Mapping[int, Calls], domains: Mapping[int, str], instances: Sequence[Instance]
) -> tuple[DomainClock, ...]:
    """Estimate the offset of every clock domain against that of the lowest rank."""
    order = list(dict.fromkeys(domains[rank] for rank in sorted(domains)))
    if not order:
        return ()
    meetings = _meetings(calls, domains, instances)
    least = HOST_RESIDUAL_NS if any(not table.on_device for table in calls.values()) else 0
    reference = order[0]
    found = []
    for domain in order:
        if domain == reference:
            residual = _spread_within(calls, domains, instances, domain)
            floored = None if residual is None else max(residual, least)
            found.append(DomainClock(domain=domain, offset_ns=0, residual_ns=floored))
            continue
        pairs = [(m[reference], m[domain]) for m in meetings if reference in m and domain in m]
        found.append(_estimate(domain, pairs, least_residual=least))
    return tuple(found)


def rank_offsets(
    clocks: Sequence[DomainClock], domains: Mapping[int, str]
) -> dict[int, int | None]:
    """Return what to add to each rank's clock."""
    by_domain = {clock.domain: clock.offset_ns for clock in clocks}
    return {rank: by_domain.get(domain) for rank, domain in domains.items()}


def _estimate(
    domain: str, pairs: Sequence[tuple[_Meeting, _Meeting]], *, least_residual: int
) -> DomainClock:
    if not pairs:
        return DomainClock(domain=domain, offset_ns=None, residual_ns=None)
    difference = np.array([a.middle_end - b.middle_end for a, b in pairs], dtype=np.int64)
    at = np.array([b.middle_end for _, b in pairs], dtype=np.int64)
    drift = _theil_sen(at, difference) if int(np.ptp(at)) > DRIFT_SPAN_NS else None
    middle = _middle(at)
    moved = np.round((drift or 0.0) * (at - middle)).astype(np.int64)
    level = difference - moved
    # Nobody leaves before everybody has entered: low <= offset <= high for every collective.
    low = np.array([a.last_start - b.first_end for a, b in pairs], dtype=np.int64) - moved
    high = np.array([a.first_end - b.last_start for a, b in pairs], dtype=np.int64) - moved
    offset = _middle(level)
    if low.max() <= high.min():
        offset = int(np.clip(offset, low.max(), high.min()))
    return DomainClock(
        domain=domain,
        offset_ns=offset,
        residual_ns=max(_middle(np.abs(level - offset)), least_residual),
        drift=drift,
        at_ns=middle,
        checked=len(pairs),
        infeasible=int(((offset < low) | (offset > high)).sum()),
    )


def _theil_sen(at: I64, difference: I64) -> float:
    """Return the median slope over all pairs of points."""
    if len(at) > MOST_POINTS:
        keep = np.linspace(0, len(at) - 1, MOST_POINTS).astype(np.int64)
        at, difference = at[keep], difference[keep]
    first, second = np.triu_indices(len(at), 1)
    apart = at[second] - at[first]
    rising = apart != 0
    slopes: F64 = (difference[second] - difference[first])[rising] / apart[rising]
    return float(np.median(slopes))


def _meetings(
    calls: Mapping[int, Calls], domains: Mapping[int, str], instances: Sequence[Instance]
) -> list[dict[str, _Meeting]]:
    found = []
    for instance in instances:
        if instance.op in SYMMETRIC:
            members: dict[str, list[tuple[int, int]]] = {}
            for rank, row in instance.members:
                span = int(calls[rank].start_ns[row]), int(calls[rank].end_ns[row])
                members.setdefault(domains[rank], []).append(span)
            found.append({domain: _meeting(spans) for domain, spans in members.items()})
    return found


def _meeting(spans: Sequence[tuple[int, int]]) -> _Meeting:
    ends = np.array([end for _, end in spans], dtype=np.int64)
    return _Meeting(max(start for start, _ in spans), int(ends.min()), _middle(ends))


def _spread_within(
    calls: Mapping[int, Calls],
    domains: Mapping[int, str],
    instances: Sequence[Instance],
    domain: str,
) -> int | None:
    """Return the median distance of first and last end on one clock, where offsets are 0."""
    spread: list[int] = []
    for instance in instances:
        rows = [(r, row) for r, row in instance.members if domains[r] == domain]
        if instance.op in SYMMETRIC and len(rows) > 1:
            ends = np.array([calls[r].end_ns[row] for r, row in rows], dtype=np.int64)
            spread.append(int(ends.max() - ends.min()))
    return _middle(np.array(spread, dtype=np.int64)) if spread else None


def _middle(values: I64) -> int:
    """Return the lower median, an element of the sample: exact for large integers."""
    return int(np.sort(values)[(len(values) - 1) // 2])

"""By how much the clock of each clock domain differs from the reference.

All members of a symmetric collective leave it at nearly the same moment, so the median difference
of their ends is the offset of their clocks (models.md 1.4). Hosts leave gloo collectives when their
threads are scheduled, which on one and the same clock differs by milliseconds: ends of host
transfers are never trusted below one millisecond. Within one domain the offset is 0 by definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import SYMMETRIC, Calls
from perfkit.analyzers.matching import Instance
from perfkit.trace.model import I64

HOST_RESIDUAL_NS = 1_000_000
"""The least uncertainty of an offset that rests on the ends of host transfers (gloo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainClock:
    """Offset to add to this domain's clock to reach the reference; None where nothing shows it."""

    domain: str
    offset_ns: int | None
    residual_ns: int | None


def align_clocks(
    calls: Mapping[int, Calls], domains: Mapping[int, str], instances: Sequence[Instance]
) -> tuple[DomainClock, ...]:
    """Estimate the offset of every clock domain against that of the lowest rank."""
    order = list(dict.fromkeys(domains[rank] for rank in sorted(domains)))
    if not order:
        return ()
    ends = _ends_by_domain(calls, domains, instances)
    on_host = any(not table.on_device for table in calls.values())
    reference = order[0]
    found = []
    for domain in order:
        if domain == reference:
            residual = _spread_within(calls, domains, instances, domain)
            found.append(DomainClock(domain=domain, offset_ns=0, residual_ns=residual))
            continue
        pairs = [(e[reference], e[domain]) for e in ends if reference in e and domain in e]
        found.append(_offset(domain, pairs, on_host=on_host))
    return tuple(found)


def rank_offsets(
    clocks: Sequence[DomainClock], domains: Mapping[int, str]
) -> dict[int, int | None]:
    """Return what to add to each rank's clock."""
    by_domain = {clock.domain: clock.offset_ns for clock in clocks}
    return {rank: by_domain.get(domain) for rank, domain in domains.items()}


def _offset(domain: str, pairs: Sequence[tuple[int, int]], *, on_host: bool) -> DomainClock:
    if not pairs:
        return DomainClock(domain=domain, offset_ns=None, residual_ns=None)
    difference = np.array([a - b for a, b in pairs], dtype=np.int64)
    offset = _middle(difference)
    residual = _middle(np.abs(difference - offset))
    if on_host:
        residual = max(residual, HOST_RESIDUAL_NS)
    return DomainClock(domain=domain, offset_ns=offset, residual_ns=residual)


def _ends_by_domain(
    calls: Mapping[int, Calls], domains: Mapping[int, str], instances: Sequence[Instance]
) -> list[dict[str, int]]:
    found = []
    for instance in instances:
        if instance.op in SYMMETRIC:
            by_domain: dict[str, list[int]] = {}
            for rank, row in instance.members:
                by_domain.setdefault(domains[rank], []).append(int(calls[rank].end_ns[row]))
            found.append({d: _middle(np.array(e, dtype=np.int64)) for d, e in by_domain.items()})
    return found


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

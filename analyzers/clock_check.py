"""Whether the clocks of different machines, once aligned, agree with what needs no clock at all.

The transfer time of a symmetric collective is known without clocks (the shortest stay) and, on
aligned clocks, as the time from the last arrival to the end. Where the two differ, an offset is
wrong, or the matching is (models.md 1.3). Ranks of one machine share a clock: nothing to check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import SYMMETRIC, Calls
from perfkit.analyzers.clocks import HOST_RESIDUAL_NS, DomainClock
from perfkit.analyzers.matching import Instance
from perfkit.analyzers.result import Clock

LEAST_DIFFERENCE_NS = 50_000
RELATIVE_DIFFERENCE = 0.10
INFEASIBLE_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCheck:
    """One domain against the reference. difference_ns: median over collectives."""

    domain: str
    difference_ns: int | None
    suspect: bool
    why: str = ""


def check_clocks(
    calls: Mapping[int, Calls],
    domains: Mapping[int, str],
    instances: Sequence[Instance],
    clocks: Sequence[DomainClock],
) -> tuple[ClockCheck, ...]:
    """Compare both transfer times for every domain, among collectives with a member in it."""
    if not clocks:
        return ()
    reference = clocks[0].domain
    on_host = any(not table.on_device for table in calls.values())
    by_domain = {clock.domain: clock for clock in clocks}
    of_domain: dict[str, list[tuple[int, int]]] = {clock.domain: [] for clock in clocks}
    for instance in instances:
        met = {domains[rank] for rank, _ in instance.members}
        times = _both_times(calls, domains, instance, by_domain) if len(met) > 1 else None
        if times is not None:
            for domain in met - {reference}:
                of_domain[domain].append(times)
    return tuple(
        _judge(clock, of_domain[clock.domain], on_host=on_host, reference=reference)
        for clock in clocks
    )


def _both_times(
    calls: Mapping[int, Calls],
    domains: Mapping[int, str],
    instance: Instance,
    clocks: Mapping[str, DomainClock],
) -> tuple[int, int] | None:
    """Return the transfer time without clocks and on aligned clocks; None where one is unknown."""
    if instance.op not in SYMMETRIC:
        return None
    starts, ends = [], []
    for rank, row in instance.members:
        start, end = int(calls[rank].start_ns[row]), int(calls[rank].end_ns[row])
        offset = clocks[domains[rank]].offset_at(start)
        if offset is None:
            return None
        starts.append(start + offset)
        ends.append(end + offset)
    shortest = min(end - start for start, end in zip(starts, ends, strict=True))
    return shortest, int(np.median(ends)) - max(starts)


def _judge(
    clock: DomainClock, times: Sequence[tuple[int, int]], *, on_host: bool, reference: str
) -> ClockCheck:
    if not times:
        return ClockCheck(domain=clock.domain, difference_ns=None, suspect=False)
    shortest, aligned = np.array(times, dtype=np.int64).T
    difference = int(np.median(np.abs(shortest - aligned)))
    noise = max(HOST_RESIDUAL_NS, 3 * (clock.residual_ns or 0))
    least = noise if on_host else LEAST_DIFFERENCE_NS
    allowed = max(float(least), RELATIVE_DIFFERENCE * float(np.median(shortest)))
    why = ""
    if clock.infeasible > INFEASIBLE_SHARE * clock.checked:
        why = (
            f"{clock.infeasible} of {clock.checked} collectives would end on {reference} before "
            f"they began on {clock.domain}"
        )
    elif difference > allowed:
        why = (
            f"the transfer times that need no clock and those of the aligned clocks differ by "
            f"{difference / 1e3:.0f} us"
        )
    return ClockCheck(domain=clock.domain, difference_ns=difference, suspect=bool(why), why=why)


def clock_rows(clocks: Sequence[DomainClock], checks: Sequence[ClockCheck]) -> tuple[Clock, ...]:
    """Return the clocks as analysis.json shows them."""
    suspect = {check.domain for check in checks if check.suspect}
    return tuple(
        Clock(
            domain=c.domain,
            offset_us=None if c.offset_ns is None else c.offset_ns / 1e3,
            residual_us=None if c.residual_ns is None else c.residual_ns / 1e3,
            drift_ppm=None if c.drift is None else c.drift * 1e6,
            suspect=c.domain in suspect,
        )
        for c in clocks
    )

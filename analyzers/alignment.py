"""By how much each rank's clock differs, for tools that put all ranks on one time axis."""

from collections.abc import Callable

from perfkit.analyzers.calls import Calls, collect_calls
from perfkit.analyzers.clock_check import check_clocks
from perfkit.analyzers.clocks import align_clocks
from perfkit.analyzers.matching import match_calls
from perfkit.trace.model import RankRecord, RankTrace, Run


def align_ranks(run: Run, load: Callable[[RankRecord], RankTrace]) -> dict[int, int | None]:
    """Return what to add to each rank's times to reach the reference, in nanoseconds.

    It is taken in the middle of the rank's capture; None where nothing shows it, or where the
    estimate contradicts what needs no clock. Loads one rank at a time and keeps its collectives.
    """
    calls: dict[int, Calls] = {}
    domains: dict[int, str] = {}
    middles: dict[int, int] = {}
    for record in run.ranks:
        trace = load(record)
        calls[record.rank] = collect_calls(trace)
        domains[record.rank] = trace.clock_domain
        events = trace.events
        middles[record.rank] = int(events.start_ns[len(events) // 2]) if len(events) else 0
    instances = match_calls(calls, run.world_size)
    clocks = align_clocks(calls, domains, instances)
    suspect = {c.domain for c in check_clocks(calls, domains, instances, clocks) if c.suspect}
    known = {clock.domain: clock for clock in clocks if clock.domain not in suspect}
    found: dict[int, int | None] = {}
    for rank, domain in domains.items():
        clock = known.get(domain)
        found[rank] = None if clock is None else clock.offset_at(middles[rank])
    return found

"""Clocks of several machines: drift, what is impossible, and what a wrong offset may not claim."""

from collections.abc import Sequence

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.calls import Calls, collect_calls
from perfkit.analyzers.clock_check import check_clocks
from perfkit.analyzers.clocks import HOST_RESIDUAL_NS, DomainClock, align_clocks
from perfkit.analyzers.matching import match_calls
from perfkit.analyzers.result import Analysis
from perfkit.trace.model import RankTrace
from tests.builders import MS, ORIGIN_NS, Item, StepItem, gloo, nccl, op, rank_trace, run_of, step

DOMAINS = {0: "a", 1: "b"}


def reducing(
    at_ms: Sequence[float], *, late_ms: Sequence[float], on_host: bool = False
) -> dict[int, Calls]:
    """Two ranks that end 5 ms all-reduces together; rank 1's clock is late_ms behind at each."""
    make = gloo if on_host else nccl
    kind = "cpu" if on_host else "cuda"
    found = {}
    for rank in (0, 1):
        items: list[Item | StepItem] = [step(0, at_ms=0, ms=max(at_ms) + 100)]
        for n, (at, late) in enumerate(zip(at_ms, late_ms, strict=True)):
            shift = late if rank == 1 else 0.0
            items.append(make("all_reduce", at_ms=at - shift, ms=5, sequence=n + 1))
        found[rank] = collect_calls(rank_trace(*items, rank=rank, world_size=2, device_kind=kind))
    return found


def aligned(calls: dict[int, Calls]) -> DomainClock:
    return align_clocks(calls, DOMAINS, match_calls(calls, 2))[1]


def test_a_drift_over_more_than_a_minute_is_fitted() -> None:
    at = [1000.0 * n + 10 for n in range(100)]
    clock = aligned(reducing(at, late_ms=[7.0 + 20e-6 * t for t in at]))  # 20 parts per million
    assert clock.drift == pytest.approx(20e-6, rel=0.01)
    for t in (at[0], at[50], at[99]):
        own = ORIGIN_NS + round((t + 5 - 7.0 - 20e-6 * t) * MS)
        assert clock.offset_at(own) == pytest.approx((7.0 + 20e-6 * t) * MS, abs=2000)
    assert clock.residual_ns is not None and clock.residual_ns < 2000
    assert (clock.checked, clock.infeasible) == (100, 0)


def test_a_few_wild_ends_do_not_move_the_drift() -> None:
    at = [1000.0 * n + 10 for n in range(100)]
    late = [7.0 + 20e-6 * t + (3.0 if n % 10 == 0 else 0.0) for n, t in enumerate(at)]
    assert aligned(reducing(at, late_ms=late)).drift == pytest.approx(20e-6, rel=0.05)


def test_no_drift_is_claimed_of_a_short_capture() -> None:
    clock = aligned(reducing([10.0, 1010.0, 2010.0], late_ms=[7.0, 7.1, 7.2]))
    assert clock.drift is None
    assert clock.offset_at(0) == clock.offset_ns


def test_an_offset_is_moved_to_where_nobody_leaves_before_all_have_entered() -> None:
    """The ends of most calls are 4 ms off; one short call leaves no room for that."""
    first = [nccl("all_reduce", at_ms=20.0 * n, ms=10, sequence=n) for n in range(1, 6)]
    second = [nccl("all_reduce", at_ms=20.0 * n, ms=6, sequence=n) for n in range(1, 6)]
    first.append(nccl("all_reduce", at_ms=200, ms=1, sequence=6))
    second.append(nccl("all_reduce", at_ms=200, ms=1, sequence=6))
    calls = {
        rank: collect_calls(rank_trace(step(0, at_ms=0, ms=300), *items, rank=rank, world_size=2))
        for rank, items in enumerate((first, second))
    }
    clock = aligned(calls)
    assert clock.offset_ns == 1 * MS  # the median of the ends would be 4 ms
    assert clock.infeasible == 0


def test_a_clock_that_jumped_is_suspect() -> None:
    at = [20.0 * n + 10 for n in range(10)]
    calls = reducing(at, late_ms=[0.0] * 6 + [12.0] * 4)
    instances = match_calls(calls, 2)
    clocks = align_clocks(calls, DOMAINS, instances)
    assert clocks[1].infeasible == 4
    first, second = check_clocks(calls, DOMAINS, instances, clocks)
    assert not first.suspect and second.suspect
    assert "4 of 10 collectives would end on a before they began on b" in second.why


def test_transfer_times_that_disagree_make_a_clock_suspect() -> None:
    """A clock that wobbles by up to 3 ms never makes a 5 ms call impossible, only implausible."""
    wobble = [0.0, 3.0, -3.0, 2.0, -2.0, 1.5, -1.5, 2.5, -2.5, 3.0]
    calls = reducing([20.0 * n + 10 for n in range(10)], late_ms=wobble)
    instances = match_calls(calls, 2)
    clocks = align_clocks(calls, DOMAINS, instances)
    assert clocks[1].infeasible == 0
    checks = check_clocks(calls, DOMAINS, instances, clocks)
    assert checks[1].suspect and "differ by 1" in checks[1].why


def test_good_clocks_are_not_suspect() -> None:
    calls = reducing([20.0 * n for n in range(1, 9)], late_ms=[5.0] * 8)
    instances = match_calls(calls, 2)
    clocks = align_clocks(calls, DOMAINS, instances)
    assert [c.suspect for c in check_clocks(calls, DOMAINS, instances, clocks)] == [False, False]


def broadcasting(rank: int, *, jump_ms: float) -> RankTrace:
    """Ten steps of 20 ms: an all-reduce and a broadcast; rank 1's clock jumps after six."""
    items: list[Item | StepItem] = []
    for k in range(11):
        t = 20.0 * k + (jump_ms if rank == 1 and k >= 6 else 0.0)
        items += [
            step(k, at_ms=t, ms=20),
            nccl("broadcast", at_ms=t + 1, ms=2, sequence=2 * k + 1, launched_at_ms=t + 0.5),
            nccl("all_reduce", at_ms=t + 10, ms=5, sequence=2 * k + 2, launched_at_ms=t + 9),
        ]
    return rank_trace(*items, rank=rank, world_size=2, clock_domain=f"boot-{rank}")


def test_a_suspect_clock_withholds_what_rests_on_it_and_no_more() -> None:
    def analysed(jump_ms: float) -> Analysis:
        run, load = run_of(broadcasting(0, jump_ms=0), broadcasting(1, jump_ms=jump_ms))
        return analyze(run, load)

    good, bad = analysed(0.0), analysed(8.0)
    codes = {issue.code for issue in bad.quality.issues}
    assert "CLOCK_SUSPECT" in codes and bad.quality.status == "degraded"
    assert "CLOCK_SUSPECT" not in {issue.code for issue in good.quality.issues}
    assert [c.suspect for c in bad.clock] == [False, True]
    by_name = {row.name: row for row in bad.collectives}
    assert by_name["broadcast"].wait_ms is None, "needs clocks: withheld"
    assert by_name["all_reduce"].wait_ms == pytest.approx(0.0), "needs none: told"
    assert {row.name: row for row in good.collectives}["broadcast"].wait_ms == pytest.approx(0.0)
    assert good.timeline is not None and good.timeline.aligned
    assert bad.timeline is not None and not bad.timeline.aligned


def late_by(late_ms: float, noise_ms: float, steps: int = 12) -> Analysis:
    """Two gloo ranks on one machine: rank 1 arrives late, ends are off by up to the noise."""
    generator = np.random.default_rng(3)
    contents: list[list[Item | StepItem]] = [[], []]
    for k in range(steps):
        t = 20.0 * k
        for rank, items in enumerate(contents):
            arrive = 10.0 + (late_ms if rank == 1 else 0.0)
            end = 18.0 + noise_ms * float(generator.uniform(-1, 1))
            items += [
                step(k, at_ms=t, ms=20),
                op("aten::mm", at_ms=t, ms=arrive),
                gloo("all_reduce", at_ms=t + arrive, ms=end - arrive, sequence=k + 1),
            ]
    traces = [
        rank_trace(*items, rank=rank, world_size=2, device_kind="cpu")
        for rank, items in enumerate(contents)
    ]
    run, load = run_of(*traces)
    return analyze(run, load)


def test_nobody_is_called_late_by_less_than_ends_agree() -> None:
    clear = late_by(4.0, noise_ms=0.5)
    assert [s.rank for s in clear.stragglers] == [1]
    assert "STRAGGLER_WITHHELD" not in {i.code for i in clear.quality.issues}
    vague = late_by(2.0, noise_ms=3.5)
    assert vague.stragglers == ()
    assert not [f for f in vague.findings if f.id.startswith("straggler")]


def test_gloo_never_tells_less_than_a_millisecond() -> None:
    analysis = late_by(0.9, noise_ms=0.0)
    assert analysis.clock[0].residual_us == HOST_RESIDUAL_NS / 1e3
    assert analysis.stragglers == ()
    if analysis.quality.cannot_tell:
        assert "for rank 1" not in analysis.verdict.sentence

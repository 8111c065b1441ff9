"""Which calls are one collective: by sequence, by order, by shift, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.calls import Calls, collect_calls
from perfkit.analyzers.clocks import HOST_RESIDUAL_NS, DomainClock, align_clocks
from perfkit.analyzers.collective_split import InstanceTimes, RankSplit, split_instances
from perfkit.analyzers.matching import Instance, match_calls
from tests.builders import MS, Item, StepItem, gloo, nccl, rank_trace, step


def calls_of(
    *ranks: list[Item],
    world_size: int | None = None,
    groups: dict[str, list[int]] | None = None,
    device_kind: str = "cuda",
) -> dict[int, Calls]:
    """The calls of ranks 0, 1, ..., all in one step of 100 ms."""
    size = world_size or len(ranks)
    found = {}
    for rank, items in enumerate(ranks):
        contents: list[Item | StepItem] = [step(0, at_ms=0, ms=100), *items]
        trace = rank_trace(
            *contents, rank=rank, world_size=size, groups=groups, device_kind=device_kind
        )
        found[rank] = collect_calls(trace)
    return found


def clock(offset_ns: int | None) -> DomainClock:
    return DomainClock(domain="a", offset_ns=offset_ns, residual_ns=0)


def members(instances: tuple[Instance, ...]) -> list[tuple[tuple[int, int], ...]]:
    return [instance.members for instance in instances]


def test_sequence_numbers_win_over_order() -> None:
    calls = calls_of(
        [nccl("all_reduce", at_ms=10 * s, ms=5, sequence=s) for s in (1, 2, 3)],
        [nccl("all_reduce", at_ms=10 * s, ms=5, sequence=s + 1) for s in (1, 2, 3)],
    )
    found = match_calls(calls, 2)
    assert members(found) == [((0, 1), (1, 0)), ((0, 2), (1, 1))], "1 and 4 are no pair"
    assert {i.matched_by for i in found} == {"sequence"}


def test_a_rank_without_sequence_numbers_falls_back_to_order() -> None:
    calls = calls_of(
        [nccl("all_reduce", at_ms=10 * s, ms=5, sequence=s) for s in (1, 2)],
        [nccl("all_reduce", at_ms=10 * s, ms=5) for s in (1, 2)],
    )
    found = match_calls(calls, 2)
    assert members(found) == [((0, 0), (1, 0)), ((0, 1), (1, 1))]
    assert {i.matched_by for i in found} == {"order"}


def test_order_within_a_step_is_the_reported_fallback() -> None:
    calls = calls_of(*([nccl("all_reduce", at_ms=10 * n, ms=5) for n in (1, 2)] for _ in range(2)))
    found = match_calls(calls, 2)
    assert members(found) == [((0, 0), (1, 0)), ((0, 1), (1, 1))]
    assert {i.matched_by for i in found} == {"order"}


def test_threads_may_start_collectives_of_different_sizes_in_any_order() -> None:
    first, second = (
        [gloo("all_reduce", at_ms=at, ms=5, elements=n) for at, n in order]
        for order in ([(10, 64), (11, 128)], [(10, 128), (11, 64)])
    )
    found = match_calls(calls_of(first, second, device_kind="cpu"), 2)
    assert sorted(members(found)) == [((0, 0), (1, 1)), ((0, 1), (1, 0))]


def test_window_heads_are_aligned_by_the_only_shift_that_fits() -> None:
    sizes = [10, 20, 30, 40]
    whole = [nccl("all_reduce", at_ms=10 * n, ms=5, elements=e) for n, e in enumerate(sizes)]
    found = match_calls(calls_of(whole, whole[2:]), 2)
    assert members(found) == [((0, 2), (1, 0)), ((0, 3), (1, 1))]


def test_an_ambiguous_shift_matches_nothing() -> None:
    whole = [nccl("all_reduce", at_ms=10 * n, ms=5) for n in range(4)]
    assert match_calls(calls_of(whole, whole[1:]), 2) == ()


def test_different_sizes_are_not_one_collective() -> None:
    calls = calls_of(
        [nccl("all_reduce", at_ms=10, ms=5, elements=10)],
        [nccl("all_reduce", at_ms=10, ms=5, elements=11)],
    )
    assert match_calls(calls, 2) == ()


def test_a_missing_member_leaves_the_collective_unmatched() -> None:
    one = [nccl("all_reduce", at_ms=10, ms=5, sequence=1)]
    assert match_calls(calls_of(one, one, world_size=3), 3) == ()
    assert match_calls(calls_of(one, world_size=2), 2) == ()


def test_groups_are_kept_apart() -> None:
    groups = {"0": [0, 1, 2, 3], "tp0": [0, 1], "tp1": [2, 3]}
    ranks = [
        [
            nccl("all_gather", at_ms=10, ms=5, group="tp0" if rank < 2 else "tp1", sequence=1),
            nccl("all_reduce", at_ms=20, ms=5, group="0", sequence=1),
        ]
        for rank in range(4)
    ]
    found = match_calls(calls_of(*ranks, groups=groups), 4)
    assert sorted(tuple(r for r, _ in m) for m in members(found)) == [(0, 1), (0, 1, 2, 3), (2, 3)]


def test_calls_of_unknown_groups_are_not_guessed_where_there_are_several() -> None:
    several = {"0": [0, 1], "tp": [0]}
    unknown = [nccl("all_reduce", at_ms=10, ms=5, group="?")]
    assert len(match_calls(calls_of(unknown, unknown), 2)) == 1
    assert len(match_calls(calls_of(unknown, unknown, groups=several), 2)) == 1, "a group of one"
    several["dp"] = [0, 1, 2, 3]
    assert match_calls(calls_of(unknown, unknown, groups=several), 2) == ()


def test_point_to_point_pairs_sender_and_receiver() -> None:
    first, second = (
        [
            nccl(op, at_ms=10, ms=ms, source=0, target=1),
            nccl(back, at_ms=30, ms=5, source=1, target=0),
        ]
        for op, back, ms in (("send", "recv", 2), ("recv", "send", 8))
    )
    calls = calls_of(first, second)
    found = match_calls(calls, 2)
    assert members(found) == [((0, 0), (1, 0)), ((0, 1), (1, 1))]
    times, splits = split_instances(calls, found, {0: clock(0), 1: clock(0)})
    assert times.transfer_ns.tolist() == [2 * MS, 5 * MS]
    assert splits[1].bubble.all(), "waiting for a peer stage is a bubble"


def split(
    *ranks: list[Item], offsets: dict[int, int | None]
) -> tuple[dict[int, Calls], InstanceTimes, dict[int, RankSplit]]:
    calls = calls_of(*ranks)
    clocks = {rank: clock(offset) for rank, offset in offsets.items()}
    times, splits = split_instances(calls, match_calls(calls, len(ranks)), clocks)
    return calls, times, splits


def test_an_early_root_does_not_make_a_broadcast_all_wait() -> None:
    """The root leaves after 1 ms; receivers arrived with it and stay 9 ms: that is transfer."""
    calls, times, splits = split(
        [nccl("broadcast", at_ms=10, ms=1)],
        [nccl("broadcast", at_ms=10, ms=9)],
        offsets={0: 0, 1: 0},
    )
    assert times.known.all()
    waits = [int((splits[r].wait_end_ns - calls[r].start_ns)[0]) for r in (0, 1)]
    assert waits == [0, 0]


def test_a_broadcast_waits_for_a_late_root() -> None:
    calls, times, splits = split(
        [nccl("broadcast", at_ms=16, ms=4)],
        [nccl("broadcast", at_ms=10, ms=10)],
        offsets={0: 0, 1: 0},
    )
    waits = [int((splits[r].wait_end_ns - calls[r].start_ns)[0]) for r in (0, 1)]
    assert waits == [0, 6 * MS]
    assert times.last_rank.tolist() == [0]


def test_a_broadcast_on_unknown_clocks_stays_unmatched() -> None:
    _, times, splits = split(
        [nccl("broadcast", at_ms=16, ms=4)],
        [nccl("broadcast", at_ms=10, ms=10)],
        offsets={0: 0, 1: None},
    )
    assert not times.known.any()
    assert not splits[1].matched.any()


def aligned(on_host: bool, drift_ns: int) -> tuple[int | None, int | None]:
    make = gloo if on_host else nccl
    ranks = [
        [make("all_reduce", at_ms=10 * n, ms=5, sequence=n) for n in range(1, 6)] for _ in range(2)
    ]
    calls = calls_of(*ranks, device_kind="cpu" if on_host else "cuda")
    late = calls[1]
    calls[1] = replace(late, end_ns=late.end_ns + drift_ns + np.arange(5) * 1000)
    clocks = align_clocks(calls, {0: "a", 1: "b"}, match_calls(calls, 2))
    assert (clocks[0].domain, clocks[0].offset_ns) == ("a", 0)
    return clocks[1].offset_ns, clocks[1].residual_ns


def test_device_ends_give_the_offset_and_its_residual() -> None:
    offset, residual = aligned(on_host=False, drift_ns=7 * MS)
    assert offset == pytest.approx(-7 * MS, abs=4000)
    assert residual == 1000


def test_host_ends_are_never_trusted_below_a_millisecond() -> None:
    assert aligned(on_host=True, drift_ns=7 * MS)[1] == HOST_RESIDUAL_NS


def test_one_clock_needs_no_offset_and_an_unseen_one_has_none() -> None:
    one = [nccl("all_reduce", at_ms=10, ms=5, sequence=1)]
    calls = calls_of(one, one)
    (clock,) = align_clocks(calls, {0: "a", 1: "a"}, match_calls(calls, 2))
    assert (clock.offset_ns, clock.residual_ns) == (0, 0)
    clocks = align_clocks(calls, {0: "a", 1: "b"}, ())
    assert clocks[1].offset_ns is None

"""Properties that must hold for any capture (models.md 1.8), on generated two-rank runs."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analyzers.join import Joined, blame_rows, join_ranks
from perfkit.analyzers.survey import RankSurvey, survey_rank
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import RankTrace
from tests.builders import MS, Item, StepItem, Transfer, rank_trace, step, step_lines

STEPS, STEP_MS = 3, 40
NO_LINES = step_lines([])

DEVICE_KINDS = (Kind.KERNEL, Kind.MEMSET, Kind.MEMCPY_H2D, Kind.MEMCPY_D2H, Kind.MEMCPY_D2D)
HOST_KINDS = (
    Kind.OP,
    Kind.INPUT_WAIT,
    Kind.CHECKPOINT,
    Kind.SYNC,
    Kind.ALLOC,
    Kind.COMPILE,
    Kind.GC,
    Kind.COMM_CALL,
)
Span = tuple[int, int, int]  # kind, start and length in quarter milliseconds
spans = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, STEPS * STEP_MS * 4), st.integers(0, 60)),
    max_size=14,
)
arrivals = st.lists(st.integers(0, 100), min_size=2 * STEPS, max_size=2 * STEPS)


def quarter(value: int) -> int:
    return value * MS // 4


def steps() -> list[Item | StepItem]:
    return [step(k, at_ms=k * STEP_MS, ms=STEP_MS) for k in range(STEPS)]


def device_items(found: list[Span]) -> list[Item]:
    return [
        Item(
            DEVICE_KINDS[kind % len(DEVICE_KINDS)],
            f"work{kind}",
            quarter(at),
            quarter(length),
            7,
            launched=(max(0, quarter(at) - quarter(kind)), quarter(kind % 3)),
        )
        for kind, at, length in found
    ]


def host_items(found: list[Span]) -> list[Item]:
    return [
        Item(HOST_KINDS[kind], f"host{kind}", quarter(at), quarter(length))
        for kind, at, length in found
    ]


def collectives(rank: int, late: list[int], *, on_device: bool) -> list[Item]:
    """One all-reduce a step that ends at 38 ms of it; a rank arrives up to 25 ms into it."""
    kind = Kind.COMM_KERNEL if on_device else Kind.COMM_HOST
    items = []
    for k in range(STEPS):
        start = quarter(k * STEP_MS * 4 + late[rank * STEPS + k])
        end = (k * STEP_MS + 38) * MS
        transfer = Transfer("all_reduce", sequence=k + 1)
        launched = (start, 0) if on_device else None
        items.append(
            Item(kind, "reduce", start, end - start, 20, launched=launched, transfer=transfer)
        )
    return items


def traces(
    device: list[list[Span]], host: list[list[Span]], late: list[int], *, on_device: bool
) -> list[RankTrace]:
    found = []
    for rank in (0, 1):
        items: list[Item | StepItem] = [
            step(k, at_ms=k * STEP_MS, ms=STEP_MS) for k in range(STEPS)
        ]
        items += host_items(host[rank]) + collectives(rank, late, on_device=on_device)
        items += device_items(device[rank]) if on_device else []
        kind = "cuda" if on_device else "cpu"
        found.append(rank_trace(*items, rank=rank, world_size=2, device_kind=kind))
    return found


def joined(found: list[RankTrace], world_size: int = 2) -> Joined:
    surveys: dict[int, RankSurvey] = {t.rank: survey_rank(t, NO_LINES) for t in found}
    return join_ranks(surveys, world_size)


def scaled(trace: RankTrace, factor: int) -> RankTrace:
    events, steps = trace.events, trace.steps
    return replace(
        trace,
        events=replace(
            events, start_ns=events.start_ns * factor, duration_ns=events.duration_ns * factor
        ),
        steps=replace(steps, start_ns=steps.start_ns * factor, end_ns=steps.end_ns * factor),
    )


def shifted(trace: RankTrace, by_ns: int) -> RankTrace:
    events, steps = trace.events, trace.steps
    return replace(
        trace,
        events=replace(events, start_ns=events.start_ns + by_ns),
        steps=replace(steps, start_ns=steps.start_ns + by_ns, end_ns=steps.end_ns + by_ns),
    )


two = st.tuples(spans, spans).map(list)


@settings(max_examples=30, deadline=None)
@given(two, two, arrivals, st.booleans())
def test_classes_fill_every_window_and_blame_fills_the_wait(
    device: list[list[Span]], host: list[list[Span]], late: list[int], on_device: bool
) -> None:
    result = joined(traces(device, host, late, on_device=on_device))
    for rank, table in result.tables.items():
        windows = result.views[rank].windows
        assert (table >= 0).all()
        assert table.sum(axis=1).tolist() == (windows.end_ns - windows.start_ns).tolist()
    wait = sum(int(t[:, TimeClass.COMM_WAIT].sum()) for t in result.tables.values())
    blamed = float(result.charges.per_step.sum() + result.charges.unknown.sum())
    assert abs(blamed - wait) < 1
    rows = sum(b.ms for b in blame_rows(result.charges))
    means = sum(len(t) for t in result.tables.values())
    assert abs(rows * means * 1e6 - wait) < 1
    assert np.allclose(result.charged_ns.sum(axis=1), result.window_ns)


@settings(max_examples=20, deadline=None)
@given(two, two, arrivals, st.booleans(), st.integers(-(10**9), 10**9))
def test_a_constant_clock_shift_of_one_rank_changes_nothing(
    device: list[list[Span]],
    host: list[list[Span]],
    late: list[int],
    on_device: bool,
    by_ns: int,
) -> None:
    plain = traces(device, host, late, on_device=on_device)
    before, after = joined(plain), joined([plain[0], shifted(plain[1], by_ns)])
    for rank in (0, 1):
        assert (before.tables[rank] == after.tables[rank]).all()
    assert blame_rows(before.charges) == blame_rows(after.charges)


@settings(max_examples=15, deadline=None)
@given(two, two, arrivals, st.booleans(), st.randoms(use_true_random=False))
def test_order_of_events_and_of_ranks_does_not_matter(
    device: list[list[Span]],
    host: list[list[Span]],
    late: list[int],
    on_device: bool,
    random: object,
) -> None:
    shuffle = getattr(random, "shuffle")  # noqa: B009 - a random.Random, typed as object
    before = joined(traces(device, host, late, on_device=on_device))
    for found in (*device, *host):
        shuffle(found)
    after = joined(list(reversed(traces(device, host, late, on_device=on_device))))
    for rank in (0, 1):
        assert (before.tables[rank] == after.tables[rank]).all()


@settings(max_examples=15, deadline=None)
@given(two, two, arrivals)
def test_scaling_time_scales_every_class(
    device: list[list[Span]], host: list[list[Span]], late: list[int]
) -> None:
    plain = traces(device, host, late, on_device=False)
    before, after = joined(plain), joined([scaled(t, 3) for t in plain])
    for rank in (0, 1):
        assert (3 * before.tables[rank] == after.tables[rank]).all()


@settings(max_examples=15, deadline=None)
@given(two, two, arrivals, st.booleans())
def test_the_last_arriver_does_not_wait(
    device: list[list[Span]], host: list[list[Span]], late: list[int], on_device: bool
) -> None:
    result = joined(traces(device, host, late, on_device=on_device))
    for number, instance in enumerate(result.instances):
        last = int(result.times.last_rank[number])
        for rank, row in instance.members:
            view = result.views[rank]
            wait = view.split.wait_end_ns[row] - view.calls.start_ns[row]
            assert wait >= 0
            assert wait == 0 or rank != last
            transfer = view.calls.end_ns[row] - view.split.wait_end_ns[row]
            assert transfer == result.times.transfer_ns[number]


@settings(max_examples=15, deadline=None)
@given(two, two, arrivals, st.booleans(), st.integers(1, 59))
def test_splitting_an_event_in_two_changes_no_class(
    device: list[list[Span]],
    host: list[list[Span]],
    late: list[int],
    on_device: bool,
    cut: int,
) -> None:
    """Host spans split where they stand; the halves touch, so the time they cover is the same.

    Calls that enqueue collectives are left out: which of two is the inner one hangs on their start.
    """
    host = [[(kind % 7, at, length) for kind, at, length in own] for own in host]
    halves = [
        [
            piece
            for kind, at, length in own
            for piece in (
                [(kind, at, cut), (kind, at + cut, length - cut)]
                if length > cut
                else [(kind, at, length)]
            )
        ]
        for own in host
    ]
    before = joined(traces(device, host, late, on_device=on_device))
    after = joined(traces(device, halves, late, on_device=on_device))
    for rank in (0, 1):
        assert (before.tables[rank] == after.tables[rank]).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=3 * STEPS, max_size=3 * STEPS))
def test_another_rank_cannot_make_a_transfer_longer(late: list[int]) -> None:
    found = []
    for rank in (0, 1, 2):
        items: list[Item | StepItem] = [
            step(k, at_ms=k * STEP_MS, ms=STEP_MS) for k in range(STEPS)
        ]
        items += collectives(rank, late, on_device=False)
        found.append(items)

    def transfers(ranks: int) -> list[int]:
        made = [
            rank_trace(*found[r], rank=r, world_size=ranks, device_kind="cpu") for r in range(ranks)
        ]
        return list(joined(made, ranks).times.transfer_ns.tolist())

    for fewer, more in zip(transfers(2), transfers(3), strict=True):
        assert more <= fewer

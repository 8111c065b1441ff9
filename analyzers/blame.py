"""Charge the time that ranks wait in collectives to what the last rank was doing instead.

For each matched collective the last arriver is compared with the median rank over the segment since
the group last was together. The wait that was exposed on any rank goes to the classes in which the
last arriver spent more than the median, in proportion (models.md 1.5; the direct part of the delay
costs of Boehme et al. 2016). If it spent no more on anything, the cause is unknown. Without this,
one rank's slow loader makes all the others look communication-bound.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.attribution import N_CLASSES
from perfkit.analyzers.calls import Calls
from perfkit.analyzers.collective_split import InstanceTimes, RankSplit, disjoint_waits
from perfkit.analyzers.matching import Instance
from perfkit.analyzers.shelf import Kept
from perfkit.analyzers.windows import Windows
from perfkit.trace.intervals import Partition, label, measure_before
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE

F64 = NDArray[np.float64]

BLAMABLE = tuple(
    c
    for c in TimeClass
    if c not in {TimeClass.COMM_WAIT, TimeClass.PIPE_BUBBLE, TimeClass.COMM_UNMATCHED}
)
"""Classes a rank can be late because of; waits are effects, not causes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankView:
    """What blame needs of one rank."""

    calls: Calls
    split: RankSplit
    kept_parts: Kept[Partition]
    windows: Windows

    @property
    def parts(self) -> Partition:
        """The rank's time by class, loaded at each call."""
        return self.kept_parts.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Exposed wait by cause, in nanoseconds, summed over ranks.

    per_step: (steps, classes), what each step's wait is charged to. unknown: (steps,), wait with no
    visible cause. by_rank: (late rank, class) -> ns. lateness: (steps, ranks), the wait that each
    rank caused; columns follow `ranks`. per_step plus unknown is the COMM_WAIT of all ranks.
    latest: (steps,), the rank that others waited longest for, hidden or not; NONE: nobody.
    causes: (row of the step, late rank) -> (classes,), in what proportion that was because of what.
    """

    ranks: tuple[int, ...]
    per_step: F64
    unknown: F64
    by_rank: dict[tuple[int, TimeClass], float]
    lateness: F64
    latest: I64
    causes: dict[tuple[int, int], F64]


MOST_BUSY_SHARE = 0.1
"""Computing for a larger share of a collective means to be ahead when it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """A past collective: when each member left it, in which step, and whether they were level."""

    end_ns: I64
    step: int
    level: bool


def charge_waits(
    views: Mapping[int, RankView], instances: Sequence[Instance], times: InstanceTimes
) -> Charges:
    """Distribute all exposed wait within the windows of the given ranks.

    All ranks have the same steps in `windows`.
    """
    ranks = tuple(sorted(views))
    steps = len(next(iter(views.values())).windows.step) if views else 0
    exposed, whole = _waits(views, exposed=True), _waits(views, exposed=False)
    latest, longest = _latest(whole, times, steps)
    wanted = {number for number, _ in exposed} | {number for number in longest if number != NONE}
    profiles = _segment_profiles(views, instances, sorted(wanted))
    per_step, lateness = np.zeros((steps, N_CLASSES)), np.zeros((steps, len(ranks)))
    unknown = np.zeros(steps)
    by_rank: dict[tuple[int, TimeClass], float] = defaultdict(float)
    causes: dict[tuple[int, int], F64] = {}
    for (number, step), wait in exposed.items():
        late = int(times.last_rank[number])
        lateness[step, ranks.index(late)] += wait
        shares = _cause_shares(profiles[number], late)
        if shares is None:
            unknown[step] += wait
            continue
        per_step[step] += wait * shares
        causes[step, late] = causes.get((step, late), 0.0) + wait * shares
        for time_class in np.flatnonzero(shares).tolist():
            by_rank[late, TimeClass(time_class)] += wait * float(shares[time_class])
    for step, (late, number) in enumerate(zip(latest.tolist(), longest, strict=True)):
        found = None if number == NONE else _cause_shares(profiles[number], late)
        if found is not None:
            causes.setdefault((step, late), found)
    return Charges(
        ranks=ranks,
        per_step=per_step,
        unknown=unknown,
        by_rank=dict(by_rank),
        lateness=lateness,
        latest=latest,
        causes=causes,
    )


def _latest(
    waits: Mapping[tuple[int, int], int], times: InstanceTimes, steps: int
) -> tuple[I64, list[int]]:
    """Return for each step the rank waited for longest, and the longest collective it was last in.

    NONE in both where nobody waited.
    """
    by_rank: dict[tuple[int, int], int] = defaultdict(int)
    longest: dict[tuple[int, int], tuple[int, int]] = {}
    for (number, step), wait in waits.items():
        late = int(times.last_rank[number])
        by_rank[step, late] += wait
        longest[step, late] = max(longest.get((step, late), (0, NONE)), (wait, number))
    latest = np.full(steps, NONE, dtype=np.int64)
    most = np.zeros(steps, dtype=np.int64)
    for (step, late), wait in by_rank.items():
        if wait > most[step]:
            latest[step], most[step] = late, wait
    return latest, [
        longest.get((step, late), (0, NONE))[1] for step, late in enumerate(latest.tolist())
    ]


def _waits(views: Mapping[int, RankView], *, exposed: bool) -> dict[tuple[int, int], int]:
    """Return the waits of all ranks by (collective, row of its step), in nanoseconds.

    exposed: only COMM_WAIT, without what is hidden under something else.
    """
    total: dict[tuple[int, int], int] = defaultdict(int)
    for _, view in sorted(views.items()):
        for number, step, wait in zip(*_wait_pieces(view, exposed=exposed), strict=True):
            total[number, step] += wait
    return dict(sorted(total.items()))


def _wait_pieces(view: RankView, *, exposed: bool) -> tuple[list[int], list[int], list[int]]:
    """Return collective, row of the step and length of each piece of one rank's waits.

    Where waits overlap, each nanosecond belongs to the collective that began first.
    """
    rows, waits = disjoint_waits(view.calls, view.split)
    lasting = waits[:, 1] > waits[:, 0]
    rows, waits = rows[lasting], waits[lasting]
    windows, shown = view.windows.intervals, view.parts.of(TimeClass.COMM_WAIT)
    edges = [waits.ravel(), windows.ravel(), *([shown.ravel()] if exposed else [])]
    cuts = np.unique(np.concatenate(edges))
    start, length = cuts[:-1], np.diff(cuts)
    wait, step = label(waits, start), label(windows, start)
    keep = (wait >= 0) & (step >= 0)
    if exposed:
        keep &= label(shown, start) >= 0
    numbers = view.split.instance[rows[wait[keep]]]
    return numbers.tolist(), step[keep].tolist(), length[keep].tolist()


def _segment_profiles(
    views: Mapping[int, RankView], instances: Sequence[Instance], wanted: Sequence[int]
) -> dict[int, dict[int, I64]]:
    """Return for each wanted instance and member rank the time per class in its segment."""
    spans: dict[int, list[tuple[int, int, int]]] = {rank: [] for rank in views}
    previous = _last_meetings(views, instances)
    for number in wanted:
        for rank, row in instances[number].members:
            view = views[rank]
            begin = previous[number].get(rank, int(view.windows.start_ns[0]))
            spans[rank].append((number, begin, int(view.calls.start_ns[row])))
    found: dict[int, dict[int, I64]] = {number: {} for number in wanted}
    for rank, view in views.items():
        if spans[rank]:
            numbers, begins, ends = np.array(spans[rank], dtype=np.int64).T
            table = _classes_between(view.parts, begins, np.maximum(begins, ends))
            for number, profile in zip(numbers.tolist(), table, strict=True):
                found[number][rank] = profile
    return found


def _classes_between(parts: Partition, begins: I64, ends: I64) -> I64:
    """Return (segments, classes): the time of each class within each segment."""
    table = np.zeros((len(begins), N_CLASSES), dtype=np.int64)
    for time_class in BLAMABLE:
        time = parts.of(time_class)
        table[:, time_class] = measure_before(time, ends) - measure_before(time, begins)
    return table


def _last_meetings(
    views: Mapping[int, RankView], instances: Sequence[Instance]
) -> list[dict[int, int]]:
    """Return for each instance when its group last was level, on each member's clock.

    That is the end of the latest earlier collective of the group that all members had left before
    any of them entered this one; overlapping collectives share the meeting before them. Whoever
    computed during a collective was ahead with its work when it ended, and computes less before the
    next one: within one step, such a collective does not count.
    """
    history: dict[object, list[_Meeting]] = defaultdict(list)
    meetings: list[dict[int, int]] = []
    busy = {rank: _busy_share(view) for rank, view in views.items()}
    for instance in instances:
        ranks = tuple(rank for rank, _ in instance.members)
        rows = [(views[rank].calls, row) for rank, row in instance.members]
        starts = np.array([calls.start_ns[row] for calls, row in rows])
        ends = np.array([calls.end_ns[row] for calls, row in rows])
        step = max(int(calls.step[row]) for calls, row in rows)
        past = history[instance.group, ranks]
        before = (m for m in reversed(past) if (m.level or m.step < step))
        found = next((m for m in before if (m.end_ns <= starts).all()), None)
        meetings.append(
            {} if found is None else dict(zip(ranks, found.end_ns.tolist(), strict=True))
        )
        level = all(busy[rank][row] < MOST_BUSY_SHARE for rank, row in instance.members)
        past.append(_Meeting(end_ns=ends, step=step, level=level))
    return meetings


def _busy_share(view: RankView) -> F64:
    """Return for each call of the rank the share of its time in which the rank computed."""
    compute, calls = view.parts.of(TimeClass.COMPUTE), view.calls
    inside = measure_before(compute, calls.end_ns) - measure_before(compute, calls.start_ns)
    return np.asarray(inside / np.maximum(calls.duration_ns, 1))


def _cause_shares(profile: Mapping[int, I64], late: int) -> F64 | None:
    """Return the classes in which the late rank exceeds the median rank, as shares of the excess.

    None where it exceeds in none.
    """
    median = np.median(np.stack(list(profile.values())), axis=0)
    excess = np.maximum(0.0, profile[late] - median)
    whole = float(excess.sum())
    return np.asarray(excess / whole) if whole > 0 else None

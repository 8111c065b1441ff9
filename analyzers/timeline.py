"""One representative step over all ranks on aligned clocks, ready to draw.

Each rank contributes lanes; a lane holds at most 2,000 marks, and where there are more, neighbours
with the smallest gaps between them become one mark that says how many events it stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.blame import RankView
from perfkit.analyzers.clocks import DomainClock
from perfkit.analyzers.result import Timeline, TimelineLane, TimelineSpan
from perfkit.analyzers.windows import Windows
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import I32, I64, NONE, Bool, RankTrace

MOST_MARKS = 2000
MOST_CANDIDATES = 16
"""Steps for which a rank keeps marks until the representative step is known."""

_DEVICE_LANES: dict[str, tuple[TimeClass, tuple[Kind, ...]]] = {
    "compute": (TimeClass.COMPUTE, (Kind.KERNEL, Kind.MEMSET, Kind.MEMCPY_D2D)),
    "device copies": (TimeClass.MEMCPY, (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H)),
}
_HOST_LANES: dict[str, tuple[TimeClass, tuple[Kind, ...]]] = {
    "compute": (TimeClass.COMPUTE, (Kind.OP,)),
}
_COMMON_LANES: dict[str, tuple[TimeClass, tuple[Kind, ...]]] = {
    "input": (TimeClass.INPUT_WAIT, (Kind.INPUT_WAIT,)),
    "checkpoint": (TimeClass.CHECKPOINT, (Kind.CHECKPOINT,)),
}
_DEVICE_HOST_LANE = (
    TimeClass.HOST_LAUNCH,
    (Kind.OP, Kind.SYNC, Kind.ALLOC, Kind.LAUNCH, Kind.RUNTIME, Kind.COMPILE, Kind.GC),
)
LANE_ORDER = ("compute", "communication", "device copies", "input", "checkpoint", "host")


@dataclass(frozen=True, slots=True)
class Marks:
    """One lane of one rank in one step; shape (n,)."""

    start_ns: I64
    end_ns: I64
    label: tuple[str, ...]
    events: I64  # how many events each mark stands for


LaneMarks = dict[str, tuple[TimeClass, Marks]]


def candidate_steps(windows: Windows) -> I64:
    """Choose the steps that may be shown: evenly spread over those with a window."""
    usable = windows.step[~windows.has_eval]
    places = np.linspace(0, len(usable) - 1, min(len(usable), MOST_CANDIDATES))
    return np.asarray(usable[np.unique(places.round().astype(np.int64))])


def collect_marks(trace: RankTrace, windows: Windows) -> dict[int, LaneMarks]:
    """Return the lanes of each candidate step, without communication (see `draw_timeline`)."""
    events = trace.events
    lanes = {**(_DEVICE_LANES if windows.on_device else _HOST_LANES), **_COMMON_LANES}
    if windows.on_device:
        lanes["host"] = _DEVICE_HOST_LANE
    found: dict[int, LaneMarks] = {}
    for step in candidate_steps(windows).tolist():
        row = int(np.searchsorted(windows.step, step))
        begin, end = int(windows.start_ns[row]), int(windows.end_ns[row])
        inside = (events.start_ns < end) & (events.end_ns > begin)
        found[step] = {
            lane: (time_class, _marks(trace, inside & _of_lane(trace, kinds), begin, end))
            for lane, (time_class, kinds) in lanes.items()
        }
    return found


def choose_step(windows: Mapping[int, Windows], marked: I64) -> int | None:
    """Choose the marked step whose slowest rank is nearest the median over steps."""
    if not windows or not len(marked):
        return None
    lengths = np.stack([w.end_ns - w.start_ns for w in windows.values()]).max(axis=0)
    steps = next(iter(windows.values())).step
    distance = np.abs(lengths - np.median(lengths))
    allowed = np.isin(steps, marked)
    if not allowed.any():
        return None
    return int(steps[allowed][int(np.argmin(distance[allowed]))])


def draw_timeline(
    step: int,
    views: Mapping[int, RankView],
    marks: Mapping[int, dict[int, LaneMarks]],
    clocks: Mapping[int, DomainClock | None],
) -> Timeline:
    """Put one step of all ranks on the common clock."""
    spans, shifts = {}, {}
    for rank, view in views.items():
        own = view.windows
        row = int(np.searchsorted(own.step, step))
        begin, end = int(own.start_ns[row]), int(own.end_ns[row])
        clock = clocks.get(rank)
        shifts[rank] = clock.offset_at(begin) if clock is not None else None
        shift = shifts[rank] or 0
        spans[rank] = (begin + shift, end + shift)
    aligned = all(shift is not None for shift in shifts.values())
    origin = min(begin for begin, _ in spans.values())
    lanes = []
    for rank, view in views.items():
        shift = (shifts[rank] or 0) - origin
        drawn = {
            lane: _spans(found, time_class, shift)
            for lane, (time_class, found) in marks[rank].get(step, {}).items()
        }
        drawn["communication"] = _communication(view, step, shift)
        lanes += [
            TimelineLane(rank=rank, lane=lane, spans=drawn[lane])
            for lane in LANE_ORDER
            if drawn.get(lane)
        ]
    return Timeline(
        step=step,
        span_us=(max(end for _, end in spans.values()) - origin) / 1e3,
        lanes=tuple(lanes),
        windows=tuple(
            (rank, (begin - origin) / 1e3, (end - origin) / 1e3)
            for rank, (begin, end) in spans.items()
        ),
        merged=any(s.events > 1 for lane in lanes for s in lane.spans),
        aligned=aligned,
    )


def _of_lane(trace: RankTrace, kinds: tuple[Kind, ...]) -> Bool:
    events = trace.events
    rows = np.isin(events.kind, kinds)
    if kinds[0] < Kind.KERNEL:
        threads = trace.training_threads
        rows &= np.isin(events.thread, threads if kinds == (Kind.OP,) else threads[:1])
    return np.asarray(rows)


def _marks(trace: RankTrace, rows: Bool, begin: int, end: int) -> Marks:
    """Keep the outermost events, clipped to the window, and merge down to the most marks."""
    events = trace.events
    found = np.flatnonzero(rows)
    start = np.maximum(events.start_ns[found], begin)
    stop = np.minimum(events.end_ns[found], end)
    reach = np.maximum.accumulate(stop)
    outer = np.ones(len(found), dtype=np.bool_)
    outer[1:] = stop[1:] > reach[:-1]
    found, start, stop = found[outer], start[outer], stop[outer]
    return _merged(start, stop, events.name[found], events.names)


def _merged(start: I64, stop: I64, name: I32, names: tuple[str, ...]) -> Marks:
    if len(start) <= MOST_MARKS:
        labels = tuple(names[i] for i in name.tolist())
        return Marks(start, stop, labels, np.ones(len(start), dtype=np.int64))
    space = start[1:] - np.maximum.accumulate(stop)[:-1]
    widest = np.sort(np.argsort(-space, kind="stable")[: MOST_MARKS - 1]) + 1
    first = np.concatenate(([0], widest))
    last = np.append(first[1:], len(start))
    count = last - first
    longest = [a + int(np.argmax((stop - start)[a:b])) for a, b in zip(first, last, strict=True)]
    labels = tuple(
        names[name[i]] + (f" and {n - 1} more" if n > 1 else "")
        for i, n in zip(longest, count.tolist(), strict=True)
    )
    return Marks(start[first], np.maximum.reduceat(stop, first), labels, count)


def _spans(marks: Marks, time_class: TimeClass, shift: int) -> tuple[TimelineSpan, ...]:
    return tuple(
        TimelineSpan(
            start_us=(start + shift) / 1e3,
            duration_us=(end - start) / 1e3,
            class_=time_class.key,
            label=label,
            events=events,
        )
        for start, end, label, events in zip(
            marks.start_ns.tolist(),
            marks.end_ns.tolist(),
            marks.label,
            marks.events.tolist(),
            strict=True,
        )
    )


def _communication(view: RankView, step: int, shift: int) -> tuple[TimelineSpan, ...]:
    """Draw each transfer that touches the window, its wait apart from its transfer."""
    calls, split, windows = view.calls, view.split, view.windows
    row = int(np.searchsorted(windows.step, step))
    begin, end = int(windows.start_ns[row]), int(windows.end_ns[row])
    touching = np.flatnonzero((calls.start_ns < end) & (calls.end_ns > begin))[: MOST_MARKS // 2]
    drawn = []
    for call in touching.tolist():
        number = int(split.instance[call])
        start, middle, stop = (
            min(max(int(t[call]), begin), end)
            for t in (calls.start_ns, split.wait_end_ns, calls.end_ns)
        )
        if number == NONE:
            pieces = [(start, stop, TimeClass.COMM_UNMATCHED)]
        else:
            waiting = TimeClass.PIPE_BUBBLE if split.bubble[call] else TimeClass.COMM_WAIT
            pieces = [(start, middle, waiting), (middle, stop, TimeClass.COMM_TRANSFER)]
        drawn += [
            TimelineSpan(
                start_us=(a + shift) / 1e3,
                duration_us=(b - a) / 1e3,
                class_=time_class.key,
                label=calls.op[call] or "communication",
                collective=None if number == NONE else number,
            )
            for a, b, time_class in pieces
            if b > a
        ]
    return tuple(drawn)

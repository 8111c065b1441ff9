"""A GPU rank's part of the replay graph: host, launches, streams, synchronisation.

A kernel starts after the one before it on its stream and after its launch. A longer delay is put
down to work of another stream that ended just before (an event wait); what remains is
unexplained. Calls that block are cut at the end of the work they waited for. Dependencies that
never made anybody wait in this capture cannot be seen: predictions of a slower network or
device are therefore lower bounds.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.attribution import comm_rows
from perfkit.analyzers.graph_gradients import gradients
from perfkit.analyzers.graph_pieces import (
    HOST,
    PYTHON_CODE,
    Columns,
    Draft,
    Piece,
    backward_passes,
    without,
)
from perfkit.analyzers.host_state import ProcessPauses, host_layers
from perfkit.analyzers.windows import is_device_work
from perfkit.roofline.kernel_work import KernelWork, kernel_work
from perfkit.trace.intervals import Intervals, paint, union
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import I64, NONE, Bool, Events, RankTrace

LAUNCH_LATENCY_NS = 10_000
"""The longest delay behind a launch or a kernel that counts as overhead of the device."""
EVENT_WAIT_NS = 20_000
"""The longest delay between work on one stream and work on another that waited for it."""
CONTENTION_NS = 200_000
"""The same while the other stream goes on: the device has no room until blocks of it finish."""
FULL_QUEUE = 1000
"""Pending launches from which on a slow launch call waits for room (CUDA holds 1024)."""
_BLOCKED_NS = 20_000
_CLASS = {
    Kind.KERNEL: TimeClass.COMPUTE,
    Kind.MEMSET: TimeClass.COMPUTE,
    Kind.MEMCPY_D2D: TimeClass.COMPUTE,
    Kind.COMM_KERNEL: TimeClass.COMM_UNMATCHED,
    Kind.MEMCPY_P2P: TimeClass.COMM_UNMATCHED,
    Kind.MEMCPY_H2D: TimeClass.MEMCPY,
    Kind.MEMCPY_D2H: TimeClass.MEMCPY,
}


def device_piece(
    trace: RankTrace, pauses: ProcessPauses, steps: tuple[int, ...], bounds: Intervals
) -> Piece:
    """Return the rank's tasks: the host's in its step windows, and the device work launched."""
    begin, end = int(bounds[0, 0]), int(bounds[-1, 1])
    work = _Work(trace.events, begin, end)
    waits = _waits(trace, work, begin, end)
    holes = _blocked(work, waits, end)
    cuts = [*bounds.ravel().tolist(), *holes.ravel().tolist()]
    cuts += work.released[work.released >= 0].tolist()
    passes = backward_passes(trace.events, trace.training_threads)
    cuts += passes.ravel().tolist()
    launching = (_recorded(trace), int(TimeClass.HOST_LAUNCH))
    layers = [*host_layers(trace.events, trace.training_threads, pauses), launching]
    whole = paint(union([begin], [end]), layers, default=PYTHON_CODE, cuts=cuts)
    draft = Draft(trace.rank, without(whole, holes), bounds, steps)
    draft.passes = passes
    draft.device = next((d for d in trace.devices if d.index == trace.device), None)
    tasks = _add_work(draft, trace, work)
    _release_host(draft, work, waits, tasks)
    _add_gradients(draft, trace, work, tasks)
    return draft.finish()


@dataclass(frozen=True, slots=True)
class _Wait:
    """A call that blocks the host until a piece of device work (a row of _Work) is done."""

    entered: int
    returned: int
    awaited: int


def _recorded(trace: RankTrace) -> Intervals:
    """Return the time in which a training thread was inside an operator or a runtime call."""
    events = trace.events
    kinds = (Kind.OP, Kind.COMM_CALL, Kind.LAUNCH, Kind.RUNTIME)
    rows = np.isin(events.kind, kinds) & np.isin(events.thread, trace.training_threads)
    return union(events.start_ns[rows], events.end_ns[rows])


class _Work:
    """The device work of a window in order of start; shape (n,). `released`: NONE if unlaunched."""

    def __init__(self, events: Events, begin: int, end: int) -> None:
        rows = np.flatnonzero(is_device_work(events))
        launch = events.launch[rows].astype(np.int64)
        launched = launch >= 0
        issue = np.where(launched, events.start_ns[launch], events.start_ns[rows])
        late = (issue >= begin) & (issue < end)
        carried = (issue < begin) & (events.end_ns[rows] > begin)
        keep = late | carried
        self.rows, self.launch = rows[keep], launch[keep]
        self.end = events.end_ns[self.rows]
        self.start = np.maximum(events.start_ns[self.rows], begin)
        known = (self.launch >= 0) & late[keep]
        self.launch = np.where(known, self.launch, NONE)
        returned = np.minimum(events.end_ns[self.launch], self.start)
        self.blocking = known & _waits_for_its_own(events, self.launch, self.start, self.end)
        entered = np.maximum(events.start_ns[self.launch], begin)
        self.released = np.where(known, np.where(self.blocking, entered, returned), NONE)
        self.place = _streams(events, self.rows)


def _waits_for_its_own(events: Events, launch: I64, start: I64, end: I64) -> Bool:
    """Mark launches that return only when their own copy is done (pageable memory)."""
    entered, returned = events.start_ns[launch], events.end_ns[launch]
    long = returned - entered > _BLOCKED_NS
    return np.asarray(long & (end <= returned) & (start >= entered))


def _streams(events: Events, rows: I64) -> I64:
    lanes = np.column_stack([events.device[rows].astype(np.int64), events.thread[rows]])
    _, place = np.unique(lanes, axis=0, return_inverse=True)
    return place.reshape(-1) + HOST + 1


def _blocked(work: "_Work", waits: Sequence[_Wait], end: int) -> Intervals:
    """Return the time in which the host only waits for the device."""
    starts = [w.entered for w in waits]
    ends = [w.entered + max(0, min(int(work.end[w.awaited]), w.returned) - w.entered)
            for w in waits]  # fmt: skip
    for k in np.flatnonzero(work.blocking).tolist():
        starts.append(int(work.released[k]))
        ends.append(int(work.end[k]))
    return union(starts, np.minimum(np.array(ends, np.int64), end))


def _waits(trace: RankTrace, work: "_Work", begin: int, end: int) -> list[_Wait]:
    """Return the calls in which the host waits: synchronisations, and launches on a full queue."""
    events = trace.events
    inside = np.isin(events.thread, trace.training_threads)
    inside &= (events.start_ns >= begin) & (events.end_ns <= end)
    rows = np.flatnonzero(inside & (events.kind == Kind.SYNC)).tolist()
    long = (events.kind == Kind.LAUNCH) & (events.duration_ns > _BLOCKED_NS)
    candidates = np.flatnonzero(inside & long)
    released, started = np.sort(work.released), np.sort(work.start)
    queued = np.searchsorted(released, events.start_ns[candidates], side="right")
    queued -= np.searchsorted(started, events.start_ns[candidates], side="right")
    if trace.device_kind == "cuda":
        rows += candidates[queued >= FULL_QUEUE].tolist()
    found = []
    for row in rows:
        entered, returned = int(events.start_ns[row]), int(events.end_ns[row])
        awaited = _awaited(work, entered, returned)
        if awaited != NONE:
            found.append(_Wait(entered, returned, awaited))
    return found


def _awaited(work: _Work, entered: int, returned: int) -> int:
    """Return the work that a blocking call waited for: launched before, the last to end in it."""
    before = (work.released <= entered) & (work.end <= returned)
    if not before.any():
        return NONE
    return int(np.flatnonzero(before)[np.argmax(work.end[before])])


def _add_work(draft: Draft, trace: RankTrace, work: _Work) -> list[int]:
    """Add the device work, each piece behind what was before it on its stream; return the tasks."""
    events, rows = trace.events, work.rows
    row_of_call = np.full(len(events), NONE, np.int64)
    calls = np.flatnonzero(comm_rows(events, on_device=True))
    row_of_call[calls] = np.arange(len(calls))
    free, start, end = _one_after_the_other(work)
    kinds = np.full(max(Kind) + 1, int(TimeClass.OTHER), np.int64)
    for kind, time_class in _CLASS.items():
        kinds[kind] = int(time_class)
    columns = Columns(
        start=start,
        end=end,
        kind=kinds[events.kind[rows]],
        resource=work.place,
        name=draft.numbered(events.names, events.name[rows].astype(np.int64)),
        call=row_of_call[rows],
        step=events.step[rows].astype(np.int64),
        backward=events.backward[rows],
    )
    first = draft.extend(columns)
    known = kernel_work(trace)
    draft.work = KernelWork(known.matrix[rows], known.simple[rows], known.made[rows])
    _tie(draft, trace, work, (first, free, columns))
    return list(range(first, first + len(rows)))


def _one_after_the_other(work: _Work) -> tuple[I64, I64, I64]:
    """Return when each piece's stream was free, and its start and end, cut not to overlap."""
    free, start, end = np.zeros_like(work.start), work.start.copy(), work.end.copy()
    for place in np.unique(work.place):
        lane = np.flatnonzero(work.place == place)
        ends = np.maximum.accumulate(np.maximum(work.end[lane], work.start[lane]))
        free[lane[1:]] = ends[:-1]
        start[lane] = np.maximum(work.start[lane], free[lane])
        end[lane] = np.maximum(start[lane], work.end[lane])
    return free, start, end


def _tie(draft: Draft, trace: RankTrace, work: _Work, added: tuple[int, I64, Columns]) -> None:
    """Let each piece of work wait for its launch, its stream, and what else made it late."""
    (first, free, columns), names = added, trace.events.names
    sources = np.where(work.released != NONE, draft.hosts_before(work.released), NONE).tolist()
    bounded = (work.released != NONE) | (free > 0)
    delays = np.where(bounded, columns.start - np.maximum(free, work.released), 0).tolist()
    name, start, end = trace.events.name[work.rows], columns.start.tolist(), columns.end.tolist()
    released, behind = work.released.tolist(), free.tolist()
    lanes: dict[int, tuple[list[int], list[int]]] = {}  # stream -> ends and tasks, in order
    for k, place in enumerate(work.place.tolist()):
        ends, numbers = lanes.setdefault(place, ([], []))
        task, delay = first + k, delays[k]
        if delay > LAUNCH_LATENCY_NS:
            late = _Late(task=task, place=place, start=start[k], delay=delay, name=names[name[k]])
            _explain(draft, lanes, late)
            delay = 0
        if sources[k] != NONE:
            draft.edge(sources[k], task, delay if released[k] >= behind[k] else 0)
        if numbers and released[k] < behind[k] and delay:
            draft.edge(numbers[-1], task, delay)
        ends.append(end[k])
        numbers.append(task)


def _add_gradients(draft: Draft, trace: RankTrace, work: _Work, tasks: Sequence[int]) -> None:
    """Tie each gradient to the kernel launched last before it: that wrote it."""
    events = trace.events
    begin, end = int(draft.bounds[0, 0]), int(draft.bounds[-1, 1])
    made = gradients(events, trace.training_threads, begin, end)
    computes = np.isin(events.kind[work.rows], [k for k, c in _CLASS.items()
                                                if c == TimeClass.COMPUTE])  # fmt: skip
    rows = np.flatnonzero(computes & (work.released != NONE))
    rows = rows[np.argsort(work.released[rows], kind="stable")]
    last = np.searchsorted(work.released[rows], made.ready_ns, side="right") - 1
    for place, size in zip(last.tolist(), made.size_bytes.tolist(), strict=True):
        if place >= 0:
            draft.gradients.append((tasks[int(rows[place])], size))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """Work that began later than its launch and its stream explain. Times in ns."""

    task: int
    place: int  # its stream
    start: int
    delay: int
    name: str


def _explain(draft: Draft, lanes: dict[int, tuple[list[int], list[int]]], late: _Late) -> None:
    """Tie a late task to another stream's work, or count the delay."""
    best, source, occupied = NONE, NONE, False
    for other, (ends, numbers) in lanes.items():
        at = bisect_right(ends, late.start) - 1
        occupied |= other != late.place and at + 1 < len(ends)  # at work when this one started
        if other != late.place and at >= 0 and ends[at] > best:
            best, source = ends[at], numbers[at]
    limit = CONTENTION_NS if occupied else EVENT_WAIT_NS
    if source != NONE and late.start - best <= min(limit, late.delay):
        draft.edge(source, late.task, late.start - best, TimeClass.IDLE_DEPENDENCY)
    else:
        draft.missed(f"stream {late.place}", late.name, late.delay)


def _release_host(draft: Draft, work: _Work, waits: Sequence[_Wait], tasks: Sequence[int]) -> None:
    """Let the host go on after what it waited for."""
    for wait in waits:
        after = draft.host_after(max(wait.entered, int(work.end[wait.awaited])))
        if after != NONE:
            draft.edge(tasks[wait.awaited], after)
    for k in np.flatnonzero(work.blocking).tolist():
        after = draft.host_after(int(work.end[k]))
        if after != NONE:
            draft.edge(tasks[k], after)

"""A CPU rank's part of the replay graph: the training thread, and collectives beside it.

The capture has no record of a wait for a collective, so where the thread waits is inferred:
right after the call, if nothing else was recorded until the transfer ended; at the end of the
backward pass for transfers that it issued (DDP's finalisation); in the gap in which the transfer
ended, if that gap is long. A transfer with none of these holds up nobody.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.attribution import comm_rows, host_compute
from perfkit.analyzers.calls import POINT_TO_POINT, Calls, collect_calls
from perfkit.analyzers.graph_gradients import gradients
from perfkit.analyzers.graph_pieces import HOST, Draft, Piece, backward_passes, without
from perfkit.analyzers.host_state import ProcessPauses, host_layers
from perfkit.trace.intervals import Intervals, gaps, paint, union
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import I64, NONE, Events, RankTrace

_ACTIVITY = (Kind.OP, Kind.COMM_CALL, Kind.INPUT_WAIT, Kind.CHECKPOINT, Kind.GC, Kind.COMPILE)
_ABOVE_COMPUTE = (TimeClass.CHECKPOINT, TimeClass.INPUT_WAIT)
_CLOSE_NS = 50_000
_RECORD_NS = 1_000_000
_RECORD_SHARE = 0.05
"""How long after the thread has gone on the record of a transfer may still be open: whichever is
longer; gloo's thread closes the record, and may have to wait for a processor first."""
_LONG_GAP_NS = 200_000
_WAIT_NS = 100_000
"""Up to here the time before a posted transfer is over is the call that asks for it."""


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One collective on the host: its row, where it was enqueued, where it is waited for."""

    row: int  # in the event table
    call: int  # in the rank's calls
    start: int
    end: int
    enqueued: int  # NONE: the call is not in the window
    inline: bool  # carried out by the training thread itself
    resume: int  # the moment at which the training thread goes on; NONE: nobody waits
    lane: object  # transfers of one lane follow each other: a thread's, or those to one peer
    posted: bool = False  # a send or a receive: the training thread asks for it, and later waits
    idle: int = NONE  # since when the thread does nothing but wait for a posted one


def host_piece(
    trace: RankTrace, pauses: ProcessPauses, steps: tuple[int, ...], bounds: Intervals
) -> Piece:
    """Return the rank's tasks in the host windows `bounds` of consecutive steps."""
    events, begin, end = trace.events, int(bounds[0, 0]), int(bounds[-1, 1])
    busy = _busy(events, trace.training_threads)
    idle = gaps(busy, begin, end)
    ends = collect_calls(trace)
    transfers = _transfers(trace, ends, idle, (begin, end))
    holes = _holes(transfers, idle)
    cuts = [*bounds.ravel().tolist(), *holes.ravel().tolist()]
    cuts += [t.resume for t in transfers if t.posted and t.resume != NONE]
    cuts += [t.enqueued for t in transfers if t.enqueued != NONE]
    made = gradients(events, trace.training_threads, begin, end)
    cuts += made.ready_ns.tolist()
    passes = backward_passes(events, trace.training_threads)
    cuts += passes.ravel().tolist()
    states = host_layers(events, trace.training_threads[:1], pauses)
    compute = host_compute(events, trace.training_threads)
    above = [s for s in states if s[1] in _ABOVE_COMPUTE]
    below = [s for s in states if s[1] not in _ABOVE_COMPUTE]
    layers = [*above, (compute, int(TimeClass.COMPUTE)), *below]
    whole = paint(union([begin], [end]), layers, default=TimeClass.HOST_LAUNCH, cuts=cuts)
    draft = Draft(trace.rank, without(whole, holes), bounds, steps)
    draft.passes = passes
    _add_transfers(draft, trace, ends, transfers)
    for ready, size in zip(made.ready_ns.tolist(), made.size_bytes.tolist(), strict=True):
        draft.gradients.append((draft.host_before(ready), size))
    return draft.finish()


def _busy(events: Events, threads: tuple[int, ...]) -> Intervals:
    rows = np.isin(events.kind, _ACTIVITY) & np.isin(events.thread, threads)
    return union(events.start_ns[rows], events.end_ns[rows])


def _transfers(
    trace: RankTrace, ends: Calls, idle: Intervals, window: tuple[int, int]
) -> list[_Transfer]:
    events, (begin, end) = trace.events, window
    rows = np.flatnonzero(comm_rows(events, on_device=False))
    inside = (events.start_ns[rows] >= begin) & (events.start_ns[rows] < end)
    calls = _enqueueing_calls(trace, rows)
    found = []
    for call, row in enumerate(rows.tolist()):
        if not inside[call]:
            continue
        issued = int(calls[call])
        start, stop = int(events.start_ns[row]), int(events.end_ns[row])
        thread = int(events.thread[row])
        if ends.op[call] in POINT_TO_POINT:
            peers = (int(ends.source[call]), int(ends.target[call]))
            since = _idle_since(idle, stop)
            waits = NONE < since < stop
            found.append(
                _Transfer(
                    row, call, start, stop, start, False, stop if waits else NONE, peers, True,
                    since if waits and stop - since >= _WAIT_NS else NONE,
                )
            )  # fmt: skip
            continue
        inline = thread in trace.training_threads
        enqueued = NONE
        if issued != NONE and int(events.start_ns[issued]) >= begin and not inline:
            enqueued = min(int(events.end_ns[issued]), start)
        resume = stop if inline else _resume(trace, idle, issued, (start, stop))
        found.append(_Transfer(row, call, start, stop, enqueued, inline, resume, thread))
    return found


def _idle_since(idle: Intervals, moment: int) -> int:
    """Return since when the training thread does nothing at a moment; NONE if it does something.

    gloo closes the record of a send or a receive in the thread that waits for it, when it does.
    """
    gap = int(np.searchsorted(idle[:, 1], moment, side="left"))
    known = gap < len(idle) and idle[gap, 0] <= moment
    return int(idle[gap, 0]) if known else NONE


def _enqueueing_calls(trace: RankTrace, rows: I64) -> I64:
    """Return the call that enqueued each transfer: as recorded, else first come first served."""
    events = trace.events
    known = events.op[rows].astype(np.int64)
    calls = np.flatnonzero(
        (events.kind == Kind.COMM_CALL) & np.isin(events.thread, trace.training_threads)
    )
    free = [c for c in calls.tolist() if c not in set(known.tolist())]
    for place in np.flatnonzero(known < 0).tolist():
        if free and events.start_ns[free[0]] <= events.start_ns[rows[place]]:
            known[place] = free.pop(0)
    return known


def _resume(trace: RankTrace, idle: Intervals, issued: int, span: tuple[int, int]) -> int:
    """Return when the training thread goes on after waiting for a transfer, NONE if it does not."""
    events, (start, stop) = trace.events, span
    slack = max(_RECORD_NS, int(_RECORD_SHARE * (stop - start)))
    gap = _longest(idle, max(start + 1, stop - slack), stop)
    if issued != NONE:
        returned = int(events.end_ns[issued])
        if gap != NONE and idle[gap, 0] <= returned + _CLOSE_NS:
            return int(idle[gap, 1])
        if bool(events.backward[issued]):
            after = _end_of_backward(trace, returned)
            if after != NONE and stop <= after + slack:
                final = _longest(idle, returned, after)
                return int(idle[gap, 1]) if gap != NONE and gap == final else after
    if gap != NONE and idle[gap, 1] - idle[gap, 0] >= _LONG_GAP_NS:
        return int(idle[gap, 1])
    return NONE


def _longest(idle: Intervals, begin: int, end: int) -> int:
    """Return the longest gap of those that end after `begin` and start by `end`; NONE if none."""
    first = int(np.searchsorted(idle[:, 1], begin, side="left"))
    last = int(np.searchsorted(idle[:, 0], end, side="right"))
    if first >= last:
        return NONE
    return first + int(np.argmax(idle[first:last, 1] - idle[first:last, 0]))


def _end_of_backward(trace: RankTrace, moment: int) -> int:
    """Return the start of the first recorded activity after `moment` outside the backward pass."""
    events = trace.events
    first = int(np.searchsorted(events.start_ns, moment, side="left"))
    rows = np.arange(first, len(events))
    forward = np.isin(events.kind[rows], _ACTIVITY) & ~events.backward[rows]
    forward &= np.isin(events.thread[rows], trace.training_threads)
    place = int(np.argmax(forward)) if forward.any() else NONE
    return int(events.start_ns[rows[place]]) if place != NONE else NONE


def _holes(transfers: list[_Transfer], idle: Intervals) -> Intervals:
    """Return the time in which the training thread does nothing but wait."""
    starts, ends = [], []
    for transfer in transfers:
        if transfer.inline:
            starts.append(transfer.start)
            ends.append(transfer.end)
        elif transfer.posted:
            if transfer.idle != NONE:
                starts.append(transfer.idle)
                ends.append(transfer.end)
        elif transfer.resume != NONE:
            gap = int(np.searchsorted(idle[:, 1], transfer.resume, side="left"))
            if gap < len(idle) and idle[gap, 1] == transfer.resume:
                starts.append(int(idle[gap, 0]))
                ends.append(max(int(idle[gap, 0]), min(transfer.end, transfer.resume)))
    return union(starts, ends)


def _add_transfers(draft: Draft, trace: RankTrace, ends: Calls, transfers: list[_Transfer]) -> None:
    events = trace.events
    lanes: dict[object, int] = {}
    last: dict[int, int] = {}  # resource -> end of its last transfer
    # Where a receive is waited for as well, that is what the thread waits for.
    receiving = {NONE, *(t.idle for t in transfers if ends.op[t.call] == "recv")}
    for transfer in transfers:
        place = lanes.setdefault(transfer.lane, HOST + 1 + len(lanes))
        task = draft.add(
            start=transfer.start,
            end=transfer.end,
            kind=TimeClass.COMM_UNMATCHED,
            resource=place,
            name=events.names[events.name[transfer.row]],
            call=transfer.call,
            step=int(events.step[transfer.row]),
        )
        source_end = transfer.start if transfer.inline else transfer.enqueued
        if source_end != NONE:
            source = draft.host_before(source_end)
            lag = transfer.start - max(source_end, last.get(place, source_end))
            if source != NONE:
                draft.edge(source, task, max(0, lag))
        last[place] = transfer.end
        if transfer.resume != NONE:
            after = draft.host_after(min(transfer.end, transfer.resume))
            if after != NONE:
                if ends.op[transfer.call] == "send" and transfer.idle not in receiving:
                    draft.sends.append((task, len(draft.edges), transfer.end - transfer.idle))
                draft.edge(task, after, min(0, transfer.resume - transfer.end))

"""Give every nanosecond of a rank's steps exactly one class (models.md 1.2, design.md section 6).

The first pass sees one rank alone and can say only that communication was exposed; the second
splits that time into transfer, bubble and wait once the collectives of all ranks are matched. Both
work on integer nanoseconds, and the classes of a window add up to its length exactly.
"""

import numpy as np

from perfkit.analyzers.host_state import (
    Layers,
    ProcessPauses,
    host_layers,
    kind_intervals,
)
from perfkit.analyzers.idle import idle_layers
from perfkit.analyzers.windows import Windows, is_device_work
from perfkit.trace.intervals import (
    Intervals,
    Partition,
    join,
    label,
    paint,
    subtract,
    union,
)
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import I64, Bool, Events, RankTrace

N_CLASSES = len(TimeClass)

_COMPUTE_KINDS = (Kind.KERNEL, Kind.MEMSET, Kind.MEMCPY_D2D)
_DEVICE_COMM_KINDS = (Kind.COMM_KERNEL, Kind.MEMCPY_P2P)
_COPY_KINDS = (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H)

_RECORDED_BY = {
    TimeClass.INPUT_WAIT: "input_wait",
    TimeClass.CHECKPOINT: "checkpoint",
    TimeClass.HOST_GC: "gc",
    TimeClass.HOST_COMPILE: "compile",
    TimeClass.HOST_SYNC: "sync",
    TimeClass.HOST_ALLOC: "alloc",
}
_DEVICE_ONLY = (
    TimeClass.MEMCPY,
    TimeClass.HOST_SYNC,
    TimeClass.HOST_ALLOC,
    TimeClass.LAUNCH_LATENCY,
    TimeClass.IDLE_DEPENDENCY,
)


def unrecorded_classes(trace: RankTrace, *, on_device: bool) -> frozenset[TimeClass]:
    """Name the classes that this capture has no recorder for: null in the budget, never zero."""
    missing = {c for c, recorder in _RECORDED_BY.items() if recorder not in trace.recorders}
    if not on_device:
        missing.update(_DEVICE_ONLY)
    return frozenset(missing)


def comm_rows(events: Events, *, on_device: bool) -> Bool:
    """Mark the transfers: kernels and peer copies of a device run, host transfers without one."""
    kinds = _DEVICE_COMM_KINDS if on_device else (Kind.COMM_HOST,)
    return np.isin(events.kind, kinds)


def attribute(trace: RankTrace, windows: Windows, pauses: ProcessPauses) -> Partition:
    """Class every nanosecond of the windows; time between separate windows has no class.

    Exposed communication carries COMM_UNMATCHED until `split_communication` says more.
    """
    if not len(windows.step):
        return paint(union([], []), [], default=TimeClass.OTHER)
    domain = union(windows.start_ns, windows.end_ns)
    layers = (_device_layers if windows.on_device else _host_layers)(trace, domain, pauses)
    default = TimeClass.OTHER if windows.on_device else TimeClass.HOST_LAUNCH
    cuts = windows.intervals.ravel()
    return paint(domain, layers, default=default, cuts=cuts)


def split_communication(
    parts: Partition, transfer: Intervals, bubble: Intervals, wait: Intervals, cuts: I64
) -> Partition:
    """Refine exposed communication, first come first served: transfer, bubble, wait, unmatched."""
    others = [
        (parts.of(int(value)), int(value))
        for value in np.unique(parts.label)
        if value != TimeClass.COMM_UNMATCHED
    ]
    exposed: Layers = [
        (transfer, TimeClass.COMM_TRANSFER),
        (bubble, TimeClass.PIPE_BUBBLE),
        (wait, TimeClass.COMM_WAIT),
    ]
    domain = union(parts.start_ns, parts.end_ns)
    return paint(domain, others + exposed, default=TimeClass.COMM_UNMATCHED, cuts=cuts)


def class_table(parts: Partition, windows: Windows) -> I64:
    """Sum a partition over windows: int64 of shape (windows, classes), in nanoseconds."""
    table = np.zeros((len(windows.step), N_CLASSES), dtype=np.int64)
    if len(windows.step):
        row = label(windows.intervals, parts.start_ns)
        inside = row >= 0
        lengths = (parts.end_ns - parts.start_ns)[inside]
        np.add.at(table, (row[inside], parts.label[inside]), lengths)
    return table


def _device_layers(trace: RankTrace, domain: Intervals, pauses: ProcessPauses) -> Layers:
    events = trace.events
    work = is_device_work(events)
    compute = _of_kinds(events, _COMPUTE_KINDS)
    comm = _of_kinds(events, _DEVICE_COMM_KINDS)
    copies = _of_kinds(events, _COPY_KINDS)
    busy = join(compute, comm, copies)
    return [
        (compute, TimeClass.COMPUTE),
        (comm, TimeClass.COMM_UNMATCHED),
        (copies, TimeClass.MEMCPY),
        *idle_layers(trace, work, busy, domain, pauses),
    ]


def _host_layers(trace: RankTrace, domain: Intervals, pauses: ProcessPauses) -> Layers:
    events, main = trace.events, trace.training_threads[:1]
    states = host_layers(events, main, pauses)
    waits = [s for s in states if s[1] in (TimeClass.CHECKPOINT, TimeClass.INPUT_WAIT)]
    rest = [s for s in states if s[1] not in (TimeClass.CHECKPOINT, TimeClass.INPUT_WAIT)]
    comm = _of_kinds(events, (Kind.COMM_HOST,))
    compute = host_compute(events, trace.training_threads)
    return [
        *waits,
        (compute, TimeClass.COMPUTE),
        (comm, TimeClass.COMM_UNMATCHED),
        *rest,
    ]


def host_compute(events: Events, threads: tuple[int, ...]) -> Intervals:
    """Return the time in operators on these threads, less the calls that enqueue collectives.

    An operator inside such a call counts again, because the innermost one decides. The span of a
    custom autograd function is an operator, so it counts as a whole.
    """
    found = []
    for thread in threads:
        ops = kind_intervals(events, Kind.OP, (thread,))
        calls = kind_intervals(events, Kind.COMM_CALL, (thread,))
        if len(calls):
            rows = np.flatnonzero((events.kind == Kind.OP) & (events.thread == thread))
            start, end = events.start_ns[rows], events.end_ns[rows]
            call = label(calls, start)
            within = call >= 0
            inner = union(start[within], np.minimum(end, calls[call, 1])[within])
            ops = join(subtract(ops, calls), inner)
        found.append(ops)
    return join(*found)


def _of_kinds(events: Events, kinds: tuple[Kind, ...]) -> Intervals:
    rows = np.isin(events.kind, kinds)
    return union(events.start_ns[rows], events.end_ns[rows])

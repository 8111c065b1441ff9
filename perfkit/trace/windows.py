"""Which threads train, where the steps of a capture lie, and which step an event belongs to."""

from collections.abc import Sequence

import numpy as np

from perfkit.trace.event_names import STEP
from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.linking import by_thread, covered
from perfkit.trace.model import I8, I32, I64, NONE, Bool, StepWindows

BACKWARD_RANGE = "autograd::engine::evaluate_function"


def find_steps(
    start_ns: I64, end_ns: I64, kind: I8, name: I32, thread: I64, names: Sequence[str]
) -> tuple[StepWindows, int]:
    """Return the windows that ProfilerStep#N ranges mark, and the thread that holds them.

    Without any, one window spans all host events (all events, if none is a host's), its source is
    "whole" and the thread is NONE. Columns have shape (n,).
    """
    numbers = np.full(len(names) + 1, NONE, np.int64)
    for index, text in enumerate(names):
        found = STEP.fullmatch(text)
        if found and len(found[1]) < 10:
            numbers[index] = int(found[1])
    marked = np.flatnonzero((numbers[name] != NONE) & (kind == Kind.ANNOTATION))
    if not len(marked):
        return _whole(start_ns, end_ns, kind), NONE
    threads, counts = np.unique(thread[marked], return_counts=True)
    stepping = int(threads[np.argmax(counts)])
    rows = marked[thread[marked] == stepping]
    rows = rows[np.argsort(start_ns[rows], kind="stable")]
    rows = rows[np.concatenate(([True], start_ns[rows][1:] >= end_ns[rows][:-1]))]
    return (
        StepWindows(
            index=numbers[name[rows]].astype(np.int32),
            start_ns=start_ns[rows],
            end_ns=end_ns[rows],
            complete=np.ones(len(rows), np.bool_),
            has_eval=np.zeros(len(rows), np.bool_),
            source="ProfilerStep",
        ),
        stepping,
    )


def _whole(start_ns: I64, end_ns: I64, kind: I8) -> StepWindows:
    host = (kind < FIRST_DEVICE_KIND) & (kind != Kind.OVERHEAD)
    rows = host if host.any() else np.ones(len(kind), np.bool_)
    some = len(start_ns) > 0
    return StepWindows(
        index=np.zeros(int(some), np.int32),
        start_ns=start_ns[rows].min(keepdims=True) if some else np.zeros(0, np.int64),
        end_ns=end_ns[rows].max(keepdims=True) if some else np.zeros(0, np.int64),
        complete=np.ones(int(some), np.bool_),
        has_eval=np.zeros(int(some), np.bool_),
        source="whole",
    )


def step_of(steps: StepWindows, at: I64) -> I32:
    """Return the step's number for each time (m,), NONE outside all windows."""
    if not len(steps.index):
        return np.full(len(at), NONE, np.int32)
    place = np.searchsorted(steps.start_ns, at, side="right") - 1
    inside = (place >= 0) & (at < steps.end_ns[np.maximum(place, 0)])
    return np.where(inside, steps.index[np.maximum(place, 0)], NONE).astype(np.int32)


def training_threads(
    kind: I8,
    name: I32,
    thread: I64,
    names: Sequence[str],
    *,
    stepping: int,
    autograd_named: Sequence[int] = (),
) -> tuple[int, ...]:
    """Return the OS thread that trains first, then those that run autograd.

    `stepping` holds the steps; if NONE, the thread with most forward operators is taken: a loader's
    or pin-memory thread has fewer. Threads without backward ranges and without an autograd name
    are left out.
    """
    backward_name = np.array([text.startswith(BACKWARD_RANGE) for text in names] + [False])
    is_op = kind == Kind.OP
    backward = is_op & backward_name[name]
    autograd = [int(t) for t in np.unique(thread[backward])]
    autograd += [t for t in autograd_named if t not in autograd]
    first = stepping
    if first == NONE:
        forward = is_op & ~np.isin(thread, autograd) if len(autograd) else is_op
        candidates = thread[forward] if forward.any() else thread[is_op]
        if not len(candidates):
            return ()
        values, counts = np.unique(candidates, return_counts=True)
        first = int(values[np.argmax(counts)])
    return (first, *(t for t in autograd if t != first))


def backward_rows(
    start_ns: I64, end_ns: I64, kind: I8, name: I32, thread: I64, names: Sequence[str]
) -> Bool:
    """Return for each host row whether it began inside a backward range of its own thread."""
    result = np.zeros(len(kind), np.bool_)
    backward_name = np.array([text.startswith(BACKWARD_RANGE) for text in names] + [False])
    ranges = (kind == Kind.OP) & backward_name[name]
    if not ranges.any():
        return result
    busy = np.unique(thread[ranges])
    host = np.flatnonzero((kind < FIRST_DEVICE_KIND) & np.isin(thread, busy))
    for group in by_thread(thread[host]):
        rows = host[group]
        of_ranges = rows[ranges[rows]]
        result[rows] = covered(start_ns[of_ranges], end_ns[of_ranges], start_ns[rows])
    return result

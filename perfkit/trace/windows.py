"""Which threads train, which step an event belongs to, and what ran in a backward pass."""

from collections.abc import Sequence

import numpy as np

from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.linking import by_thread, covered
from perfkit.trace.model import I8, I32, I64, NONE, Bool, StepWindows

BACKWARD_RANGE = "autograd::engine::evaluate_function"


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
    or pin-memory thread has fewer; where no operators are recorded, the thread that launches most.
    Threads without backward ranges and without an autograd name are left out.
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
            candidates = thread[kind == Kind.LAUNCH]
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

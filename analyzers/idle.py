"""Why a device was idle, decided for each gap by the work that ended it.

A gap ends when some kernel starts. If its launch call had returned before the gap began, the host
is not to blame: the device waited for a dependency, or took its usual few microseconds. If not, the
launching thread was late, and the gap is charged to what that thread was doing until it launched
(models.md 1.2, classes 7 to 12; the same idea as HTA's HOST_WAIT, on the whole device).
"""

from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.host_state import (
    Layers,
    ProcessPauses,
    any_host_activity,
    host_layers,
)
from perfkit.trace.intervals import Intervals, Partition, gaps, paint, union
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE, Bool, RankTrace

LAUNCH_LATENCY_LIMIT_NS = 10_000
"""A gap before work that was already enqueued counts as launch latency up to this length."""


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Idle gaps and the launch call of the work that ended each; `call` is NONE if unknown."""

    start: I64
    end: I64
    call: I64
    inside_graph: Bool


def idle_layers(
    trace: RankTrace, work: Bool, busy: Intervals, domain: Intervals, pauses: ProcessPauses
) -> Layers:
    """Give every idle nanosecond of the domain a cause.

    `work` marks the device work among the events and `busy` is its union. The layers returned do
    not overlap and together are the domain less `busy`.
    """
    if not len(domain):
        return []
    found = _find_gaps(trace, work, busy, int(domain[0, 0]), int(domain[-1, 1]))
    events = trace.events
    linked = found.call != NONE
    call = np.where(linked, found.call, 0)
    call_start, call_end = events.start_ns[call], events.end_ns[call]
    enqueued = linked & (call_end <= found.start)
    short = found.end - found.start <= LAUNCH_LATENCY_LIMIT_NS
    dependency = found.inside_graph | (enqueued & ~short)
    late = linked & ~enqueued & ~found.inside_graph
    launched = np.clip(call_start, found.start, found.end)
    prompt = enqueued & short & ~found.inside_graph
    latency = union(
        np.concatenate((found.start[prompt], launched[late])),
        np.concatenate((found.end[prompt], found.end[late])),
    )
    layers: Layers = [
        (union(found.start[dependency], found.end[dependency]), TimeClass.IDLE_DEPENDENCY),
        (latency, TimeClass.LAUNCH_LATENCY),
    ]
    threads = events.thread[call]
    for thread in np.unique(threads[late]):
        rows = late & (threads == thread)
        lateness = union(found.start[rows], launched[rows])
        states = host_layers(events, (int(thread),), pauses)
        layers += _layers(paint(lateness, states, default=TimeClass.HOST_LAUNCH))
    unlinked = ~linked & ~found.inside_graph
    layers += _unlinked(trace, union(found.start[unlinked], found.end[unlinked]), pauses)
    return layers


def _find_gaps(trace: RankTrace, work: Bool, busy: Intervals, start: int, end: int) -> _Gaps:
    events = trace.events
    idle = gaps(busy, start, end)
    rows = np.flatnonzero(work)
    starts = events.start_ns[rows]
    after = np.searchsorted(starts, idle[:, 1], side="left")
    ends_it = after < len(rows)
    ends_it[ends_it] = starts[after[ends_it]] == idle[ends_it, 1]
    ender = rows[np.where(ends_it, after, 0)] if len(rows) else np.zeros(len(idle), dtype=np.int64)
    call = np.where(ends_it, events.launch[ender], NONE) if len(rows) else ender + NONE
    first_of_call = np.full(len(events) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_of_call, events.launch[rows], starts)
    inside = (call != NONE) & (first_of_call[call] < idle[:, 1])
    return _Gaps(idle[:, 0], idle[:, 1], call.astype(np.int64), inside)


def _unlinked(trace: RankTrace, idle: Intervals, pauses: ProcessPauses) -> Layers:
    """Paint gaps whose end has no known launch by what the training thread does meanwhile."""
    if not len(idle):
        return []
    threads = trace.training_threads[:1]
    states = host_layers(trace.events, threads, pauses)
    if threads:
        active = any_host_activity(trace.events, threads[0])
        states.append((active, TimeClass.HOST_LAUNCH))
    return _layers(paint(idle, states, default=TimeClass.OTHER))


def _layers(parts: Partition) -> Layers:
    return [(parts.of(int(value)), int(value)) for value in np.unique(parts.label)]

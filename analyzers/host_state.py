"""What a host thread was doing at each moment, as far as it has a recorder."""

from dataclasses import dataclass

import numpy as np

from perfkit.trace.intervals import EMPTY, Intervals, join, union
from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind, TimeClass
from perfkit.trace.model import Events, StepLines

STATES: tuple[tuple[Kind, TimeClass], ...] = (
    (Kind.CHECKPOINT, TimeClass.CHECKPOINT),
    (Kind.INPUT_WAIT, TimeClass.INPUT_WAIT),
    (Kind.SYNC, TimeClass.HOST_SYNC),
    (Kind.ALLOC, TimeClass.HOST_ALLOC),
    (Kind.COMPILE, TimeClass.HOST_COMPILE),
    (Kind.GC, TimeClass.HOST_GC),
)
"""Host states by falling priority (models.md 1.2, classes 7 to 9)."""

Layers = list[tuple[Intervals, int]]


@dataclass(frozen=True, slots=True)
class ProcessPauses:
    """Pauses of the whole process, from the step lines: they hold every thread."""

    gc: Intervals
    compiling: Intervals

    @classmethod
    def of(cls, lines: StepLines) -> "ProcessPauses":
        """Collect the garbage collections and compilations of a rank."""
        return cls(
            gc=union(lines.gc.start_ns, lines.gc.start_ns + lines.gc.duration_ns),
            compiling=union(
                lines.compile.start_ns, lines.compile.start_ns + lines.compile.duration_ns
            ),
        )


NO_PAUSES = ProcessPauses(gc=EMPTY, compiling=EMPTY)


def kind_intervals(events: Events, kind: Kind, threads: tuple[int, ...]) -> Intervals:
    """Return the time that any of these threads spent in events of one kind."""
    rows = (events.kind == kind) & np.isin(events.thread, threads)
    return union(events.start_ns[rows], events.end_ns[rows])


def host_layers(events: Events, threads: tuple[int, ...], pauses: ProcessPauses) -> Layers:
    """Return the states of these threads, highest priority first."""
    layers: Layers = []
    for kind, time_class in STATES:
        found = kind_intervals(events, kind, threads)
        if kind == Kind.GC:
            found = join(found, pauses.gc)
        elif kind == Kind.COMPILE:
            found = join(found, pauses.compiling)
        layers.append((found, time_class))
    return layers


def any_host_activity(events: Events, thread: int) -> Intervals:
    """Return the time in which a thread was inside anything that was recorded."""
    rows = (events.kind < FIRST_DEVICE_KIND) & (events.thread == thread)
    return union(events.start_ns[rows], events.end_ns[rows])

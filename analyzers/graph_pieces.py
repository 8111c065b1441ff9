"""One rank's part of a replay graph: tasks with what they really cost, and what each waits for.

Observed waiting is taken out of the tasks and put into dependencies, so that it appears again in
the replay only as long as its cause lasts. Delays that no dependency explains are dropped, counted
and named: they are the replay's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perfkit.roofline.kernel_work import KernelWork
from perfkit.trace.intervals import Intervals, Partition, label, union
from perfkit.trace.kinds import Kind, TimeClass
from perfkit.trace.model import I64, NONE, Bool, DeviceFacts, Events

PYTHON = "host_python"
PYTHON_CODE = len(TimeClass)
"""A class that only replays have: host time of a GPU run outside any recorded operator or call."""
HOST = 0
"""The resource of the training threads: forward and backward threads hand over to each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """Delays before the tasks of one resource that no recorded cause explains."""

    resource: str
    name: str  # of the task that was delayed longest
    total_ns: int
    where: str = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One rank's tasks, shape (n,), those of a resource in time order; dependencies, shape (m,).

    `call` is the row in the rank's calls of a collective transfer, else NONE. `name` indexes
    `names`, `step` is the place of the task's step among `steps` (NONE: none). Times are the
    rank's own clock; the piece starts at begin_ns. `step_end_ns`: when each step's last
    task ended, as it was measured; shape (steps,).
    """

    rank: int
    steps: tuple[int, ...]
    begin_ns: int
    start_ns: I64
    duration_ns: I64
    kind: I64  # TimeClass, or PYTHON_CODE
    resource: I64
    call: I64
    name: I64
    step: I64
    edge_source: I64
    edge_target: I64
    edge_lag_ns: I64
    edge_kind: I64
    names: tuple[str, ...]
    unexplained: tuple[Unexplained, ...]
    step_end_ns: I64
    gradient_task: I64  # shape (gradients,): the task behind which each gradient is ready
    gradient_bytes: I64
    backward: Bool  # shape (n,): on behalf of a backward pass
    sends: I64 = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """Sends that the training thread waited for, shape (k, 3): task, the thread's dependency on it,
    how long it had done nothing else."""
    device: DeviceFacts | None = None  # the accelerator that did the work
    work: KernelWork  # of each task, shape (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Tasks beside the host's in columns of shape (k,), as in Piece; `step` is a step's number."""

    start: I64
    end: I64
    kind: I64
    resource: I64
    name: I64
    call: I64
    step: I64
    backward: Bool


@dataclass(slots=True)
class Draft:
    """A piece that is being put together; the host's tasks come first."""

    rank: int
    host: Partition
    bounds: Intervals  # host windows of the steps
    steps: tuple[int, ...]
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    resource: list[int] = field(default_factory=list)
    call: list[int] = field(default_factory=list)
    name: list[int] = field(default_factory=list)
    edges: list[tuple[int, int, int, int]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    sends: list[tuple[int, int, int]] = field(default_factory=list)
    device: DeviceFacts | None = None
    passes: Intervals = field(default_factory=lambda: union([], []))  # backward, on the host
    backward: list[bool] = field(default_factory=list)
    waited: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    gradients: list[tuple[int, int]] = field(default_factory=list)
    work: KernelWork | None = None  # of the tasks beside the host's; None: nothing known

    def add(  # noqa: PLR0913 - one row of a table
        self,
        *,
        start: int,
        end: int,
        kind: TimeClass,
        resource: int,
        name: str,
        call: int = NONE,
        step: int = NONE,
        backward: bool = False,
    ) -> int:
        """Add a task beside the host's; return its number. `step` is a step's number."""
        self.start.append(start)
        self.backward.append(backward)
        self.end.append(end)
        self.step.append(self.steps.index(step) if step in self.steps else NONE)
        self.duration.append(max(0, end - start))
        self.kind.append(int(kind))
        self.resource.append(resource)
        self.call.append(call)
        self.name.append(self.names.setdefault(name, len(self.names)))
        return len(self.host.start_ns) + len(self.start) - 1

    def extend(self, tasks: Columns) -> int:
        """Add many tasks beside the host's, in their order; return the number of the first."""
        first = len(self.host.start_ns) + len(self.start)
        steps = np.asarray(tasks.step, np.int64) - self.steps[0]
        known = (steps >= 0) & (steps < len(self.steps))
        self.start += tasks.start.tolist()
        self.end += tasks.end.tolist()
        self.duration += np.maximum(tasks.end - tasks.start, 0).tolist()
        self.step += np.where(known, steps, NONE).tolist()
        self.kind += tasks.kind.tolist()
        self.resource += tasks.resource.tolist()
        self.call += tasks.call.tolist()
        self.name += tasks.name.tolist()
        self.backward += tasks.backward.tolist()
        return first

    def numbered(self, names: Sequence[str], rows: I64) -> I64:
        """Return the numbers of names that are used: `rows` index `names`."""
        used, place = np.unique(rows, return_inverse=True)
        numbers = [self.names.setdefault(names[u], len(self.names)) for u in used.tolist()]
        return np.array(numbers, np.int64)[place]

    def edge(
        self, source: int, target: int, lag: int = 0, kind: TimeClass = TimeClass.LAUNCH_LATENCY
    ) -> None:
        """Let `target` wait for `source`."""
        self.edges.append((source, target, lag, int(kind)))

    def host_before(self, moment: int) -> int:
        """Return the host task that ends at or before a moment; NONE before the first."""
        return int(np.searchsorted(self.host.end_ns, moment, side="right")) - 1

    def hosts_before(self, moments: I64) -> I64:
        """Return the same for many moments."""
        return np.searchsorted(self.host.end_ns, moments, side="right") - 1

    def host_after(self, moment: int) -> int:
        """Return the host task that starts at or after a moment; NONE behind the last."""
        row = int(np.searchsorted(self.host.start_ns, moment, side="left"))
        return row if row < len(self.host.start_ns) else NONE

    def missed(self, resource: str, name: str, delay: int) -> None:
        """Count a delay that nothing explains."""
        total, worst, worst_name = self.waited.get(resource, (0, -1, ""))
        if delay > worst:
            worst, worst_name = delay, name
        self.waited[resource] = (total + delay, worst, worst_name)

    def finish(self) -> Piece:
        """Return the piece."""
        host = self.host
        n = len(host.start_ns)
        step = np.concatenate([label(self.bounds, host.start_ns), np.array(self.step, np.int64)])
        ends = self.bounds[:, 1].copy()
        beside = np.array(self.step, np.int64)
        np.maximum.at(ends, beside[beside >= 0], np.array(self.end, np.int64)[beside >= 0])
        edges = np.array(self.edges, dtype=np.int64).reshape(-1, 4)
        ready = np.array(self.gradients, dtype=np.int64).reshape(-1, 2)
        host_name = self.names.setdefault("host", len(self.names))
        return Piece(
            rank=self.rank,
            steps=self.steps,
            begin_ns=int(self.bounds[0, 0]),
            start_ns=np.concatenate([host.start_ns, np.array(self.start, np.int64)]),
            duration_ns=np.concatenate(
                [host.end_ns - host.start_ns, np.array(self.duration, np.int64)]
            ),
            kind=np.concatenate([host.label.astype(np.int64), np.array(self.kind, np.int64)]),
            resource=np.concatenate([np.full(n, HOST), np.array(self.resource, np.int64)]),
            call=np.concatenate([np.full(n, NONE), np.array(self.call, np.int64)]),
            name=np.concatenate([np.full(n, host_name), np.array(self.name, np.int64)]),
            step=step,
            edge_source=edges[:, 0],
            edge_target=edges[:, 1],
            edge_lag_ns=edges[:, 2],
            edge_kind=edges[:, 3],
            names=tuple(self.names),
            unexplained=tuple(
                Unexplained(resource=where, name=name, total_ns=total)
                for where, (total, _, name) in sorted(self.waited.items())
            ),
            step_end_ns=ends,
            gradient_task=ready[:, 0],
            gradient_bytes=ready[:, 1],
            backward=np.concatenate(
                [label(self.passes, host.start_ns) >= 0, np.array(self.backward, np.bool_)]
            ),
            sends=np.array(self.sends, dtype=np.int64).reshape(-1, 3),
            device=self.device,
            work=joined_work([unknown_work(n), self.work or unknown_work(len(self.start))]),
        )


def unknown_work(count: int) -> KernelWork:
    """Return the work of tasks of which no bytes are known."""
    return KernelWork(*(np.full(count, np.nan) for _ in range(3)))


def joined_work(parts: Sequence[KernelWork]) -> KernelWork:
    """Put the columns of several one behind the other."""
    return KernelWork(
        matrix=np.concatenate([p.matrix for p in parts]),
        simple=np.concatenate([p.simple for p in parts]),
        made=np.concatenate([p.made for p in parts]),
    )


def backward_passes(events: Events, threads: tuple[int, ...]) -> Intervals:
    """Return the time in which a thread was inside an operator of a backward pass."""
    rows = (events.kind == Kind.OP) & events.backward & np.isin(events.thread, threads)
    return union(events.start_ns[rows], events.end_ns[rows])


def without(parts: Partition, holes: Intervals) -> Partition:
    """Take waits out of a partition that is cut at their bounds."""
    keep = label(holes, parts.start_ns) < 0
    return Partition(parts.start_ns[keep], parts.end_ns[keep], parts.label[keep])

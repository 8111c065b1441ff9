"""What a run is, once read: event columns of a rank, its steps, its step lines, its facts.

Every reader (Kineto, Nsight, our own streams) produces these types; nothing downstream asks
which file they came from. All times are integer nanoseconds of Unix time on the rank's own
clock domain; offsets between clock domains are estimated later and never applied in place.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfkit.trace.telemetry import Telemetry

I8 = NDArray[np.uint8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

NONE = -1
"""The value of "no such thing" in every integer column."""
MAX_RANKS = 1_000_000
"""A larger world size is a damaged number, not a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One thing that is wrong with, or missing from, a capture."""

    code: str  # upper snake case, stable: RANKS_MISSING, TRACE_TRUNCATED, ...
    severity: str  # "info", "warning" (degrades the claims it touches) or "error" (unusable)
    message: str  # what, where, and what it costs the reader
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpShape:
    """The recorded inputs of one operator call, as the profiler wrote them."""

    dims: tuple[object, ...]  # per input: a tuple of ints; () for scalars; nested for tensor lists
    dtypes: tuple[str, ...]
    concrete: tuple[str, ...] = ()
    strides: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """One rank's events, one row each, sorted by start_ns (ties: longer first).

    All columns have shape (n,). `op` and `launch` are rows of this same table.
    """

    start_ns: I64
    duration_ns: I64
    kind: I8  # Kind
    name: I32  # index into `names`
    thread: I64  # OS thread id of a host event, stream id of a device event
    device: I16  # NONE for host events
    correlation: I64  # launch call <-> device work; NONE where there is none
    launch: I32  # of device work: row of the call that launched it
    op: I32  # of device work and runtime calls: row of the innermost operator that issued them
    step: I32  # step in which the event began (host) or was launched (device); NONE outside steps
    shape: I32  # index into `shapes`
    sequence: I64  # autograd sequence number, shared by a forward op and its backward
    backward: Bool  # the op ran on behalf of a backward pass
    size_bytes: I64  # of copies and memsets
    names: tuple[str, ...]
    shapes: tuple[OpShape, ...] = ()

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def end_ns(self) -> I64:
        """Start plus duration."""
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives:
    """Facts of the collectives among a rank's events, one row each, in order of start_ns.

    A row is one transfer (a COMM_KERNEL or COMM_HOST event), not its enqueueing call.
    """

    event: I32  # row in Events
    group: I32  # index into RankTrace.groups; NONE where the capture does not say
    sequence: I64  # c10d sequence number within the group; NONE where the capture does not say
    op: tuple[str, ...]  # all_reduce, all_gather, reduce_scatter, broadcast, all_to_all, send, ...
    dtype: tuple[str, ...]  # torch's short name: float32, bfloat16, ...; "" unknown
    in_elements: I64
    out_elements: I64
    size_bytes: I64  # S of nccl-tests (models.md 3.1); NONE unknown
    source_rank: I32  # of point-to-point transfers
    target_rank: I32

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """A communicator as the capture names it."""

    name: str
    description: str
    ranks: tuple[int, ...]  # global ranks; () where the capture does not say
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWindows:
    """The host windows of the captured steps, in order; shape (n,)."""

    index: I32  # the step's number
    start_ns: I64
    end_ns: I64
    complete: Bool  # the capture saw the whole step
    has_eval: Bool
    source: str  # "perfkit", "ProfilerStep", "nvtx", "optimizer", "whole" (no steps: one window)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One accelerator as the capture describes it."""

    index: int
    name: str
    memory_bytes: int = 0
    compute_capability: str = ""
    multiprocessors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTrace:
    """Everything that one rank's trace files say, after reading."""

    rank: int
    world_size: int
    events: Events
    collectives: Collectives
    groups: tuple[ProcessGroup, ...]
    steps: StepWindows
    training_threads: tuple[int, ...]  # OS ids: the thread that steps first, autograd threads after
    device_kind: str  # "cpu", "cuda", "rocm", "other"
    device: int  # the accelerator this rank computes on; NONE on CPU
    devices: tuple[DeviceFacts, ...]
    node: str
    clock_domain: str
    has_shapes: bool
    sources: tuple[Path, ...]
    recorders: frozenset[str]
    """Which classes of host time had a recorder: "input_wait", "checkpoint", "gc", "compile",
    "sync", "alloc". A class without one is null in the budget, never zero."""
    issues: tuple[Issue, ...] = ()
    memory: "MemorySamples | None" = None
    profiled: tuple[tuple[int, int], ...] = ()
    """When the profiler ran: begin and end, one pair a file; () where no file says so."""
    counters: tuple["DeviceCounter", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySamples:
    """Allocator totals over time, from [memory] instants; shape (n,)."""

    at_ns: I64
    device: I16  # NONE: host
    allocated_bytes: I64
    reserved_bytes: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCounter:
    """A hardware counter of a rank's device, sampled while its captured steps ran."""

    name: str  # as the profiler names it, with its unit: "SMs Active [Throughput %]"
    mean: float  # of the samples; each is the mean of its sampling period
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Host spans recorded outside the profiler; shape (n,)."""

    start_ns: I64
    duration_ns: I64
    step: I32


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLines:
    """The always-on record of a rank: one row per optimizer step; shape (n,)."""

    index: I32
    start_ns: I64
    end_ns: I64
    input_wait_ns: I64
    checkpoint_ns: I64
    micro_batches: I32
    samples: I64  # NONE where no leading dimension showed it
    tokens: I64  # NONE where unknown
    has_eval: Bool
    profiled: Bool  # a profiler (ours or the user's) ran in this step
    gc: Spans
    compile: Spans
    device_ns: I64 | None = None  # between CUDA events at the step's ends; NONE where not known
    resident_bytes: I64 | None = None  # of the process after the step (--memory); NONE: not known
    memory: "StepMemory | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """What the device's allocator held after some of the steps, in order; shape (n,).

    A peak is that of all steps so far: the program's own statistics are not reset. retries: how
    often so far the allocator gave its cache back and asked the device again; NONE: not recorded.
    """

    index: I32
    end_ns: I64
    allocated_bytes: I64
    peak_allocated_bytes: I64
    reserved_bytes: I64
    peak_reserved_bytes: I64
    retries: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """What a run folder holds of one rank process; the trace is loaded only when asked for."""

    rank: int
    world_size: int
    attempt: int
    folder: Path
    facts: dict[str, object]  # facts.json as written; docs/run-folder.md defines it
    lines: StepLines
    traces: tuple[Path, ...]
    ended: str  # "exit", "exception", "signal:15", "killed" (no end record), "running"
    issues: tuple[Issue, ...] = ()
    process: int = NONE  # which process of its trace files the rank is; NONE: the only one
    step_pattern: str = ""  # a regular expression that names the ranges which are steps


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """What one launching parent recorded (nodes/NODE/run.json)."""

    node: str
    facts: dict[str, object]
    telemetry: Telemetry | None = None  # nodes/NODE/telemetry.jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder, or a set of foreign traces seen as a run. Only the last attempt is analysed."""

    run_id: str
    path: Path | None  # None for foreign traces
    ranks: tuple[RankRecord, ...]  # of the analysed attempt, by rank
    nodes: tuple[NodeRecord, ...] = ()
    attempts: int = 1
    issues: tuple[Issue, ...] = field(default=())

    @property
    def world_size(self) -> int:
        """Ranks that the job had, which may exceed the ranks that were captured."""
        return max((r.world_size for r in self.ranks), default=0)

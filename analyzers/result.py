"""The typed content of analysis.json: what an analysis says, and nothing that it computed with.

Field names are the names in the file (design.md section 6); units stand in the names. A value that
the capture cannot support is None, never zero. `msgspec` encodes these structs and derives the
JSON Schema from them. Every analyzer fills one part; `analyzers/analysis.py` joins the parts.
"""

import msgspec

from perfkit.analyzers.result_network import NetworkFit
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.result_replay import Efficiency, SecondOpinion
from perfkit.analyzers.result_telemetry import CounterRow, NodeLoad
from perfkit.analyzers.result_whatif import WhatIf
from perfkit.roofline.summary import RunRoofline

SCHEMA_VERSION = 1


class World(msgspec.Struct, frozen=True, kw_only=True):
    """How large the job was and how much of it was analysed."""

    size: int
    nodes: int
    analysed_ranks: tuple[int, ...]
    device_kind: str  # cpu, cuda, rocm, other
    device_name: str  # "" on CPU


class QualityIssue(msgspec.Struct, frozen=True, kw_only=True):
    """One flaw of the capture, with what it costs."""

    code: str
    severity: str  # info, warning, error
    message: str
    ranks: tuple[int, ...] = ()


class CannotTell(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that this capture cannot support, why, and what would let it."""

    claim: str
    why: str
    remedy: str


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How far the capture can be trusted: ok, degraded or unusable."""

    status: str
    issues: tuple[QualityIssue, ...]
    cannot_tell: tuple[CannotTell, ...]


class SlowStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that took far longer than its neighbours, with what the step line knows of why."""

    step: int
    rank: int
    ms: float
    over_median: float  # ratio
    cause: str  # checkpoint, input_wait, gc, compile, eval, unknown


class Periodicity(msgspec.Struct, frozen=True, kw_only=True):
    """Slow steps that come back every `every` steps."""

    every: int
    cause: str
    extra_ms: float  # median excess of the slow steps over the others
    count: int


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Step times of the whole run from the step lines; slowest rank per step.

    `median_ms`, `p95_ms`, `p99_ms` are over unprofiled steady steps; None where there are none.
    """

    analysed: int  # steps in the budget
    recorded: int  # steps in the step lines
    median_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    profiled_median_ms: float | None
    per_rank_median_ms: tuple[float | None, ...]
    per_rank_device_median_ms: tuple[float | None, ...] = ()  # by CUDA events; (): none recorded
    slow: tuple[SlowStep, ...] = ()
    periodic: tuple[Periodicity, ...] = ()
    mean_ms: float | None = None  # of the steps behind the median: rare slow ones count too
    drift_percent: float | None = None  # last third against first third of the steady steps
    input_wait_share: float | None = None  # of the steady steps' time, all ranks
    checkpoint_share: float | None = None
    eval_steps: int = 0
    eval_ms: float = 0.0  # cost of steps with an evaluation in them, beyond the median step
    series: tuple["StepPoint", ...] = ()


class StepPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the whole-run view: the slowest rank's time and its known parts."""

    step: int
    ms: float
    rank: int
    input_wait_ms: float
    checkpoint_ms: float
    profiled: bool
    has_eval: bool


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Work per second of the whole job over unprofiled steady steps; None where unknown."""

    samples_per_s: float | None
    tokens_per_s: float | None
    source: str


class ClassTime(msgspec.Struct, frozen=True, kw_only=True):
    """Mean time per step and rank in one class, and its share of all windows."""

    ms: float
    share: float


class RankBudget(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's budget before blame; a class without a recorder is None."""

    rank: int
    window_ms: float  # mean window per step
    classes: dict[str, ClassTime | None]


class StepBudget(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's step, nanosecond-exact before rounding: the classes sum to the window."""

    rank: int
    step: int
    window_ms: float
    classes_ms: dict[str, float]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of the analysed steps went, before blame."""

    classes: dict[str, ClassTime | None]  # None: no recorder for it, or no step was traced
    rollup: dict[str, float]  # share of compute, communication, io, host; empty without steps
    per_rank: tuple[RankBudget, ...]
    per_step: tuple[StepBudget, ...] = ()


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """Exposed wait that a late rank caused: ms per step, mean over ranks, and what it was doing."""

    rank: int  # -1: nobody stands out (unknown skew)
    class_: str = msgspec.field(name="class")
    ms: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the step, how far ahead of the next cause, and how sure that is.

    label: compute, communication, io, host, mixed or undetermined. dominant: the largest share
    after blame. limiter: the largest recoverable share (communication, io, host), None below its
    "none" threshold. margin: share of dominant less the next. confidence: bootstrap probability
    that `dominant` stays (models.md 1.7, blocks of steps; ranks are not resampled).
    """

    label: str
    mixed_of: tuple[str, ...]
    tentative: bool
    dominant: str | None
    limiter: str | None
    margin: float | None
    confidence: float | None
    reason: str
    sentence: str  # the verdict in one plain sentence with its evidence
    rollup_after_blame: dict[str, float]
    severity: dict[str, str]  # per family: none, moderate, high
    blame: tuple[Blame, ...]


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Offset added to a clock domain to reach the reference, and how far ends still differ.

    drift_ppm: how much faster the reference runs, in parts per million; None where the capture
    spans less than a minute. suspect: the offset contradicts what needs no clock.
    """

    domain: str
    offset_us: float | None
    residual_us: float | None
    drift_ppm: float | None = None
    suspect: bool = False


class CollectiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of collective: per call, mean over ranks; bandwidths by nccl-tests (GB = 1e9)."""

    group: str
    name: str
    dtype: str
    bytes: int | None  # S of nccl-tests
    ranks: int
    count: float  # calls per step
    transfer_ms: float | None
    wait_ms: float | None
    exposed_ms: float  # part of once_ms not hidden under compute, mean per call over ranks
    algbw_gbyte_per_s: float | None
    busbw_gbyte_per_s: float | None
    last_arriver: dict[str, int]
    matched_by: str  # sequence, order, unmatched
    duration_ms: float | None = None  # whole call, waiting included, mean over ranks
    once_ms: float | None = None  # of it: time that calls of a group share, divided among them
    exposed_transfer_ms: float | None = None  # part of transfer_ms that no compute hides
    callers_share: float = 1.0  # of the analysed ranks: those that make these calls

    @property
    def mean_count(self) -> float:
        """Calls per step, mean over all analysed ranks: what sums over groups are made of."""
        return self.count * self.callers_share


class GroupRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process group's communication per step and rank; None where a part is not known."""

    group: str
    ranks: int
    operations: tuple[str, ...]
    count: float  # calls
    bytes: float | None  # S of nccl-tests
    transfer_ms: float | None
    wait_ms: float | None
    exposed_ms: float
    hidden_share: float | None = None  # of the time in its calls: how much runs beside compute
    kind: str = "cannot tell"  # data, tensor, pipeline, expert or context parallel
    because: str = ""  # what the kind rests on, or why there is none


class SizeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Calls per step and rank whose message has low_bytes <= bytes < high_bytes."""

    low_bytes: int
    high_bytes: int
    count: float
    bytes: float
    transfer_ms: float | None


class Straggler(msgspec.Struct, frozen=True, kw_only=True):
    """A rank that is late: its excess over the median rank, and how often it arrives last."""

    rank: int
    class_: str = msgspec.field(name="class")
    excess_ms: float
    share_of_steps: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to act on. gain_ceiling: largest possible speed-up, 1/(1-f) after blame."""

    id: str
    severity: str  # high, moderate, info
    title: str
    evidence: str
    ranks: tuple[int, ...]
    recipe: str | None
    gain_ceiling: float | None
    next_step: str  # what to do, a command where there is one
    not_when: str = ""  # when this advice does not apply


class OperatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """Time of one operator or kernel name: self time, so that rows of one kind never overlap."""

    name: str
    kind: str  # operator, kernel, collective, copy
    count: float  # per step, mean over ranks
    ms: float  # per step, mean over ranks
    share: float  # of the analysed windows
    shapes: str = ""  # the commonest input shapes, for reading only


class TimelineSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One mark of the timeline; merged spans say how many events they stand for."""

    start_us: float  # from the step's origin
    duration_us: float
    class_: str = msgspec.field(name="class")
    label: str
    events: int = 1
    collective: int | None = None  # the same number on every rank for the same collective


class TimelineLane(msgspec.Struct, frozen=True, kw_only=True):
    """One row of one rank in the timeline."""

    rank: int
    lane: str  # compute, communication, input, host, device copies, ...
    spans: tuple[TimelineSpan, ...]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One step over all ranks on aligned clocks."""

    step: int
    span_us: float
    lanes: tuple[TimelineLane, ...]
    windows: tuple[tuple[int, float, float], ...]  # rank, start_us, end_us
    merged: bool = False
    aligned: bool = True


class MemoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The most memory that was held at once in one stretch of the capture."""

    at_ms: float  # from the rank's first sample
    allocated_bytes: int
    reserved_bytes: int


class RankMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank's allocator held over the capture, from the profiler's memory records.

    growth_bytes_per_step: from the end of the first whole step to the end of the last one, per
    step; None with fewer than three whole steps. retries: how often the allocator found no room
    on the device, gave all of its cache back and asked again; None where no step line says it.
    """

    rank: int
    device: str  # cuda:1, cpu, ...
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_step: int | None  # None: the peak lies outside the steps
    growth_bytes_per_step: float | None
    retries: int | None = None  # from the start up to the last step that says it
    retries_in_steps: int | None = None  # of these: after the first step that says it
    rises: bool = False  # at the end of every whole step, of at least five, more than before it
    samples: int
    series: tuple[MemoryPoint, ...] = ()


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was run, for the reader of a report; nothing here is a measurement."""

    run_id: str
    command: str
    launcher: str
    started_utc: str
    exit_status: int | None
    hosts: tuple[str, ...]
    torch: str
    python: str
    backend: str
    model: str  # parameters and bytes, where known
    sources: tuple[str, ...]
    facts: dict[str, str] = msgspec.field(default_factory=dict)


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of analysis.json."""

    schema_version: int
    perfkit_version: str
    world: World
    quality: Quality
    steps: Steps
    throughput: Throughput
    budget: Budget
    verdict: Verdict
    clock: tuple[Clock, ...]
    collectives: tuple[CollectiveRow, ...]
    stragglers: tuple[Straggler, ...]
    findings: tuple[Finding, ...]
    operators: tuple[OperatorRow, ...]
    timeline: Timeline | None
    run: RunFacts
    roofline: RunRoofline | None = None  # None: no rank has a trace
    groups: tuple[GroupRow, ...] = ()  # most exposed first
    message_sizes: tuple[SizeRow, ...] = ()
    memory: tuple[RankMemory, ...] = ()  # ranks whose trace holds the allocator's records
    networks: tuple[NetworkFit, ...] = ()
    efficiency: Efficiency | None = None  # None: no rank computed, or no trace
    second_opinion: SecondOpinion | None = None  # None: no trace
    telemetry: tuple[NodeLoad, ...] = ()  # nodes sampled while steps ran
    counters: tuple[CounterRow, ...] = ()  # of ranks whose capture sampled their device
    what_if: WhatIf | None = None  # None: no trace
    pipeline: PipelineFacts | None = None  # None: no pipeline was seen

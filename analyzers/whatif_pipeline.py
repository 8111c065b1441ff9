"""Another pipeline schedule, or another number of micro-batches of the same batch.

On a CPU run the step's schedule is played out twice, as captured and as asked for
(roofline/schedule_simulation), with what the capture says of each stage: the part of a forward and
of a backward pass that grows with the rows of a micro-batch, the part that each micro-batch costs
however small it is, and the time of a transfer. The step changes by the difference. On a device
the host's cost of a micro-batch hides behind the device's work, and the bubble changes by its
published formula (roofline/pipeline): only the schedule's own part, what the run had above it
stays.
"""

from dataclasses import dataclass, replace

import numpy as np

from perfkit.analyzers.graph import StepGraph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import I64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.whatif import Change, Setting
from perfkit.roofline.pipeline import (
    GPIPE,
    INTERLEAVED,
    NAIVE,
    ONE_F_ONE_B,
    PassTimes,
    Shape,
    bubble,
)
from perfkit.roofline.schedule_simulation import orders, play
from perfkit.trace.model import Bool

KNOWN = (NAIVE, GPIPE, ONE_F_ONE_B, INTERLEAVED)
GROWS_NS = 100_000
"""Operators from here on count as work on the rows of a micro-batch, shorter ones as a cost of
calling them."""
SMALL_BYTES = 65_536
"""Messages up to here cost their latency, larger ones their bytes."""
_EQUAL = PassTimes(forward_s=1.0, backward_s=2.0)  # their ratio cancels in the formulas


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A schedule with its numbers."""

    schedule: str
    micro_batches: int
    chunks: int

    def shape(self, stages: int) -> Shape:
        return Shape(stages=stages, micro_batches=self.micro_batches, chunks=self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What the passes of a stage cost in one step, all micro-batches together, in seconds."""

    forward_s: float  # grows with the rows
    forward_calls_s: float  # grows with the number of micro-batches and chunks
    backward_s: float
    backward_calls_s: float

    def passes(self, now: _Kind, then: _Kind) -> PassTimes:
        """Return the times of one micro-batch through the stage."""
        calls = then.chunks / (now.micro_batches * now.chunks)
        return PassTimes(
            forward_s=self.forward_s / then.micro_batches + self.forward_calls_s * calls,
            backward_s=self.backward_s / then.micro_batches + self.backward_calls_s * calls,
        )


def pipeline_of(
    facts: PipelineFacts | None,
    *,
    schedule: str | None = None,
    micro_batches: int | None = None,
    chunks: int | None = None,
) -> Change:
    """The same batch under another schedule and in another number of micro-batches."""

    def edit(setting: Setting) -> Setting | Refusal:
        kinds = _kinds(facts, schedule, micro_batches, chunks)
        if isinstance(kinds, Refusal) or facts is None:
            return kinds if isinstance(kinds, Refusal) else _NO_PIPELINE
        shift = _shift_ns(setting.graph, facts, *kinds)
        if isinstance(shift, Refusal):
            return shift
        return replace(setting, shift_ns=setting.shift_ns + shift)

    words = [schedule + (f" in {chunks} chunks" if chunks else "")] if schedule else []
    options = [f"--schedule {schedule}" + (f":{chunks}" if chunks else "")] if schedule else []
    if micro_batches:
        words.append(f"{micro_batches} micro-batch{'es' * (micro_batches > 1)}")
        options.append(f"--micro-batches {micro_batches}")
    return Change(
        name=", ".join(words),
        option=" ".join(options),
        assumptions=(
            "on a CPU run: passes take what they took, shared out by rows; what a micro-batch "
            "costs however small it is (calls, Python, transfers of up to 64 KiB) comes again "
            "with each; all micro-batches of a stage are alike (40 trials of two stages over gloo: "
            "median 3.0 % off, worst 16 %)",
            "on a device: the schedule's own bubble follows its published formula (equal stages, "
            "free transfers) and what the run had above it stays; not held against a measurement",
            "the batch is the same, and memory suffices: in-flight micro-batches differ between "
            "schedules",
        ),
        apply=edit,
        recipe="pipeline-schedule",
    )


_NO_PIPELINE = Refusal(reason="the run shows no pipeline")


def _kinds(
    facts: PipelineFacts | None, schedule: str | None, micro_batches: int | None, chunks: int | None
) -> tuple[_Kind, _Kind] | Refusal:
    """Return the captured schedule and the one that is asked for."""
    if facts is None:
        return _NO_PIPELINE
    if facts.schedule not in KNOWN or not facts.micro_batches:
        if facts.schedule is not None:
            return Refusal(reason=f"from {facts.schedule} no other schedule is predicted")
        return Refusal(reason=f"the schedule is not known: {facts.reason}")
    then = schedule or facts.schedule
    parts = (chunks or facts.chunks or 1) if then == INTERLEAVED else 1
    return (
        _Kind(schedule=facts.schedule, micro_batches=facts.micro_batches, chunks=facts.chunks or 1),
        _Kind(schedule=then, micro_batches=micro_batches or facts.micro_batches, chunks=parts),
    )


def _shift_ns(graph: StepGraph, facts: PipelineFacts, now: _Kind, then: _Kind) -> float | Refusal:
    """Return by how much the step becomes longer, in nanoseconds."""
    try:
        if graph.on_device:
            return _by_formula(facts, now, then)
        return _by_simulation(graph, facts, now, then)
    except ValueError as error:
        return Refusal(reason=str(error))


def _by_formula(facts: PipelineFacts, now: _Kind, then: _Kind) -> float | Refusal:
    if facts.bubble_ms is None or not facts.bubble_over_ideal:
        return Refusal(reason="the bubble could not be measured: sends and receives are unmatched")
    shares = [bubble(k.schedule, k.shape(facts.stages), _EQUAL).over_ideal for k in (now, then)]
    return 1e6 * facts.bubble_ms / facts.bubble_over_ideal * (shares[1] - shares[0])


def _by_simulation(
    graph: StepGraph, facts: PipelineFacts, now: _Kind, then: _Kind
) -> float | Refusal:
    if set(facts.ranks) - set(graph.ranks):
        return Refusal(reason="not every stage of the pipeline was captured")
    stages = [_stage(graph, rank) for rank in facts.ranks]
    sends = _sends(graph)
    if sends is None:
        return Refusal(reason="sends and receives could not be matched across ranks")
    spans = []
    for kind in (now, then):
        shape = kind.shape(facts.stages)
        times = [stage.passes(now, kind) for stage in stages]
        send_s = sends[0] + sends[1] * now.micro_batches / kind.micro_batches
        order = orders(kind.schedule, shape)
        played = play(order, times, shape, send_s=send_s, on_demand=True)
        spans.append(played.makespan_s)
    return 1e9 * (spans[1] - spans[0])


def _stage(graph: StepGraph, rank: int) -> _Stage:
    """Add up the passes of a rank, mean over the steps; what follows the last backward stays."""
    tasks = graph.plan.graph
    host = graph.names.index("host") if "host" in graph.names else -1
    own = np.flatnonzero((tasks.rank == rank) & (graph.name == host) & (graph.step_of_task >= 0))
    stays = of_kinds(tasks, ("input_wait", "checkpoint"))
    own = own[~np.isin(own, stays)]
    own = own[~_behind_the_last_backward(graph, own)]
    backward = graph.backward[own]
    computes = np.isin(own, of_kinds(tasks, ("compute",)))
    grows = computes & (tasks.duration_ns[own] >= GROWS_NS)
    spent = tasks.duration_ns[own] / 1e9 / len(graph.steps)
    return _Stage(
        forward_s=float(spent[~backward & grows].sum()),
        forward_calls_s=float(spent[~backward & ~grows].sum()),
        backward_s=float(spent[backward & grows].sum()),
        backward_calls_s=float(spent[backward & ~grows].sum()),
    )


def _behind_the_last_backward(graph: StepGraph, own: I64) -> Bool:
    """Mark the tasks of each step that come after its last backward work: the optimizer's."""
    step, backward = graph.step_of_task[own], graph.backward[own]
    last = np.full(len(graph.steps), -1)
    np.maximum.at(last, step[backward], own[backward])
    return np.asarray(own > last[step])


def _sends(graph: StepGraph) -> tuple[float, float] | None:
    """Return the time of a transfer in seconds: what stays, and what grows with the rows."""
    tasks = graph.plan.graph
    between = [i for i, t in enumerate(graph.transfers) if t.op in ("send", "recv")]
    rows = np.flatnonzero(np.isin(tasks.collective, between))
    if not len(rows):
        return None
    numbers = tasks.collective[rows]
    sizes = np.array([graph.transfers[n].size_bytes for n in numbers.tolist()])
    took = float(np.median(tasks.duration_ns[rows])) / 1e9
    return (took, 0.0) if np.median(sizes) <= SMALL_BYTES else (0.0, took)

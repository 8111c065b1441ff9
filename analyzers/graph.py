"""The replay graph of a run: all ranks' tasks over some steps, with collectives across ranks.

The graph is fit for predictions only if replaying it unmodified gives the measured time within
2 %; otherwise it is refused and the largest delay without a recorded cause is named (models.md
5.2).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfkit.analyzers.calls import Calls, collect_calls
from perfkit.analyzers.clocks import align_clocks, rank_offsets
from perfkit.analyzers.graph_collectives import Collectives, Parts, Transfer
from perfkit.analyzers.graph_device import device_piece
from perfkit.analyzers.graph_host import host_piece
from perfkit.analyzers.graph_pieces import (
    PYTHON,
    Piece,
    Unexplained,
    joined_work,
    unknown_work,
)
from perfkit.analyzers.host_state import ProcessPauses
from perfkit.analyzers.matching import match_calls
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import (
    F64,
    CyclicGraphError,
    Plan,
    Schedule,
    TaskGraph,
)
from perfkit.analyzers.windows import is_device_work
from perfkit.roofline.kernel_work import KernelWork
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE, Bool, DeviceFacts, RankRecord, RankTrace, Run, StepLines

TOLERANCE = 0.02
MOST_UNEXPLAINED = 0.05
"""Share of the time that any one stream may be late without a recorded cause: the host's own time
replays exactly whatever it hides, so that such a capture would look perfect and be wrong."""
LEAST_STEPS = 2
MOST_STEPS = 6
MOST_TASKS = 4_000_000
KINDS = (*(c.key for c in TimeClass), PYTHON)
_THREAD, _SENT = "the training thread", "sends that had arrived"
Load = Callable[[RankRecord], RankTrace]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGraph:
    """A validated graph. `transfer` maps a collective's number to what it moves."""

    plan: Plan
    base: Schedule
    steps: tuple[int, ...]
    ranks: tuple[int, ...]
    step_ns: float  # measured: mean period of the steps' ends, on the slowest rank
    replay_error: float  # replayed / measured - 1
    step_of_task: I64  # place among `steps`; NONE: none
    transfers: tuple[Transfer, ...]
    unmatched: int  # transfers behind the first step of which not all members were captured
    name: I64  # of each task, into `names`
    names: tuple[str, ...]
    on_device: bool
    gradient_task: I64  # shape (gradients,): behind which task each gradient is ready
    gradient_bytes: I64
    backward: Bool  # of each task: on behalf of a backward pass
    work: KernelWork  # of each task: the bytes behind it
    devices: tuple[DeviceFacts, ...]  # different ones only; () where the capture does not say
    unexplained: tuple[tuple[int, Unexplained], ...]  # by rank, largest first

    def period_ns(self, schedule: Schedule) -> float:
        """Return the mean time from one step's end to the next one's in a replay."""
        return _period(_step_ends(self.step_of_task, schedule.end_ns, len(self.steps)))


def build_graph(run: Run, load: Load) -> StepGraph | Refusal:
    """Build and validate the graph of the last common steps of a run, at most MOST_STEPS."""
    records = [r for r in run.ranks if r.traces]
    if not records:
        return Refusal(reason="the run holds no trace", remedy="profile it with a window")
    steps = _common_steps([_usable_steps(load(r), r.lines) for r in records])
    if len(steps) < LEAST_STEPS:
        return _too_few(steps)
    pieces, calls, domains = [], {}, {}
    for record in records:
        trace = load(record)
        pieces.append(rank_piece(trace, record.lines, steps))
        calls[trace.rank] = collect_calls(trace)
        domains[trace.rank] = trace.clock_domain
        if sum(len(p.start_ns) for p in pieces) > MOST_TASKS:
            break
    return join_pieces(pieces, calls, domains, run.world_size)


def join_pieces(
    pieces: Sequence[Piece],
    calls: Mapping[int, Calls],
    domains: Mapping[int, str],
    world_size: int,
) -> StepGraph | Refusal:
    """Put the pieces of all ranks, cut over the same steps, together and validate the graph."""
    if sum(len(p.start_ns) for p in pieces) > MOST_TASKS:
        return Refusal(
            reason=f"the captured steps hold more than {MOST_TASKS} tasks",
            remedy="profile fewer steps or ranks",
        )
    instances = match_calls(calls, world_size)
    offsets = rank_offsets(align_clocks(calls, domains, instances), domains)
    on_device = any(table.on_device for table in calls.values())
    return assemble(Parts(pieces, calls, instances, offsets, on_device))


def own_steps(trace: RankTrace, lines: StepLines) -> tuple[int, ...] | Refusal:
    """Return the steps of one rank that a graph can be built of: its last, at most MOST_STEPS."""
    steps = _common_steps([_usable_steps(trace, lines)])
    return steps if len(steps) >= LEAST_STEPS else _too_few(steps)


def _too_few(steps: Sequence[int]) -> Refusal:
    known = f"step {steps[0]} alone" if steps else "no step"
    return Refusal(
        reason=f"{known} was captured whole on all ranks: without a second one the start and "
        "the end of the capture would count as part of it",
        remedy="profile a window of at least two steps: --window A:B",
    )


def rank_piece(trace: RankTrace, lines: StepLines, steps: tuple[int, ...]) -> Piece:
    """Return one rank's tasks over the given consecutive steps."""
    rows = np.isin(trace.steps.index, steps)
    starts, ends = trace.steps.start_ns[rows], trace.steps.end_ns[rows]
    bounds = np.column_stack([starts, np.append(starts[1:], ends[-1:])])
    pauses = ProcessPauses.of(lines)
    on_device = bool(is_device_work(trace.events).any())
    return (device_piece if on_device else host_piece)(trace, pauses, steps, bounds)


def assemble(parts: Parts) -> StepGraph | Refusal:
    """Join the ranks' pieces and replay them; refuse a graph that does not reproduce the run."""
    pieces = parts.pieces
    base = np.cumsum([0, *(len(p.start_ns) for p in pieces)])
    tasks = int(base[-1])
    groups = Collectives(parts, base)
    skew = _skew_ns(pieces, parts.offsets_ns)
    edges = _edges(pieces, base, tasks, groups.lag_ns)
    graph = TaskGraph(
        duration_ns=np.concatenate([groups.duration_ns, skew]).astype(np.float64),
        resource=np.concatenate([_resources(pieces), -1 - np.arange(len(pieces))]),
        kind=np.concatenate([groups.kind, np.full(len(pieces), int(TimeClass.OTHER))]),
        rank=np.concatenate([np.repeat([p.rank for p in pieces], np.diff(base)),
                             [p.rank for p in pieces]]),
        collective=np.concatenate([groups.number, np.full(len(pieces), NONE)]),
        key=np.full(tasks + len(pieces), NONE),
        edge_source=edges[0],
        edge_target=edges[1],
        edge_lag_ns=edges[2].astype(np.float64),
        edge_kind=edges[3],
        kinds=KINDS,
    )  # fmt: skip
    try:
        plan = Plan(graph)
    except CyclicGraphError as error:
        return Refusal(
            reason=f"the captured order contradicts itself ({len(error.tasks)} tasks wait for "
            "each other)",
            remedy="the clocks of the ranks may be off; capture again",
        )
    schedule = plan.run()
    measured = np.max(
        [p.step_end_ns - p.begin_ns + own for p, own in zip(pieces, skew, strict=True)], axis=0
    )
    names, name = _names(pieces)
    step = np.concatenate([*(p.step for p in pieces), np.full(len(pieces), NONE)])
    replayed = _step_ends(step, schedule.end_ns, len(pieces[0].steps))
    result = StepGraph(
        plan=plan,
        base=schedule,
        steps=pieces[0].steps,
        ranks=tuple(p.rank for p in pieces),
        step_ns=_period(measured),
        replay_error=_period(replayed) / _period(measured) - 1,
        step_of_task=step,
        transfers=tuple(groups.transfers),
        unmatched=groups.unmatched,
        name=np.concatenate([name, np.full(len(pieces), NONE)]),
        names=names,
        on_device=parts.on_device,
        gradient_task=np.concatenate(
            [p.gradient_task + begin for p, begin in zip(pieces, base[:-1], strict=True)]
        ),
        gradient_bytes=np.concatenate([p.gradient_bytes for p in pieces]),
        backward=np.concatenate([*(p.backward for p in pieces), np.zeros(len(pieces), np.bool_)]),
        work=joined_work([*(p.work for p in pieces), unknown_work(len(pieces))]),
        devices=_devices(pieces),
        unexplained=_largest(pieces, groups.waited_ns()),
    )
    whole = float(replayed.max() / measured.max() - 1)
    worst_ns = max((u.total_ns for _, u in result.unexplained), default=0)
    window_ns = result.step_ns * len(result.steps)
    late = worst_ns / window_ns
    unpaired = "" if parts.on_device else _unpaired(groups, window_ns)
    off = max(abs(result.replay_error), abs(whole)) > TOLERANCE or late > MOST_UNEXPLAINED
    if unpaired or off:
        return Refusal(
            reason=unpaired or _gap(result, whole),
            remedy="predictions from this capture would be wrong",
        )
    return result


def _step_ends(step: I64, end_ns: F64, steps: int) -> F64:
    """Return when each step's last task ended, on any rank."""
    ends = np.zeros(steps)
    np.maximum.at(ends, step[step >= 0], end_ns[step >= 0])
    return ends


def _period(ends: F64) -> float:
    """Return the mean distance of consecutive ends."""
    return float((ends[-1] - ends[0]) / (len(ends) - 1))


def _resources(pieces: Sequence[Piece]) -> I64:
    found, used = [], 0
    for piece in pieces:
        found.append(piece.resource + used)
        used += int(piece.resource.max(initial=0)) + 1
    return np.concatenate(found)


def _skew_ns(pieces: Sequence[Piece], offsets: Mapping[int, int | None]) -> F64:
    """Return how much later than the first each rank entered the window; 0 where unknown."""
    if any(offsets.get(p.rank) is None for p in pieces):
        return np.zeros(len(pieces))
    begins = np.array([p.begin_ns + (offsets[p.rank] or 0) for p in pieces], np.int64)
    skew: F64 = (begins - begins.min()).astype(np.float64)
    return skew


def _edges(
    pieces: Sequence[Piece], base: I64, tasks: int, lag_ns: Sequence[I64]
) -> tuple[I64, I64, I64, I64]:
    """Return the edge columns; every rank's resources begin after its skew."""
    columns: tuple[list[I64], ...] = ([], [], [], [])
    for i, piece in enumerate(pieces):
        _, first = np.unique(piece.resource, return_index=True)
        none = np.zeros(len(first), np.int64)
        columns[0].extend([piece.edge_source + base[i], none + tasks + i])
        columns[1].extend([piece.edge_target + base[i], first + base[i]])
        columns[2].extend([lag_ns[i], none])
        columns[3].extend([piece.edge_kind, none])
    sources, targets, lags, kinds = (np.concatenate(column) for column in columns)
    return sources, targets, lags, kinds


def _devices(pieces: Sequence[Piece]) -> tuple[DeviceFacts, ...]:
    found = [replace(p.device, index=0) for p in pieces if p.device is not None]
    return tuple(dict.fromkeys(found)) if len(found) == len(pieces) else ()


def _names(pieces: Sequence[Piece]) -> tuple[tuple[str, ...], I64]:
    table: dict[str, int] = {}
    columns = []
    for piece in pieces:
        numbers = np.array([table.setdefault(n, len(table)) for n in piece.names], np.int64)
        columns.append(numbers[piece.name])
    return tuple(table), np.concatenate(columns)


def _largest(
    pieces: Sequence[Piece], waited_ns: Mapping[int, int]
) -> tuple[tuple[int, Unexplained], ...]:
    rows = [(p.rank, u) for p in pieces for u in p.unexplained]
    for rank, total in waited_ns.items():
        rows.append(
            (rank, Unexplained(resource=_THREAD, name=_SENT, total_ns=total, where="after"))
        )
    return tuple(sorted(rows, key=lambda row: -row[1].total_ns))


def _unpaired(groups: Collectives, window_ns: float) -> str:
    """Say that sends did not meet their receives, if that leaves much of a rank's time unknown."""
    count, spent_ns = groups.unpaired()
    if spent_ns <= MOST_UNEXPLAINED * window_ns:
        return ""
    return (
        f"{count} sends and receives could not be paired: the capture does not say who "
        "sends to whom (gloo's does not beyond two ranks), so that no wait for them can be replayed"
    )


def _gap(graph: StepGraph, whole: float) -> str:
    error = max(graph.replay_error, whole, key=abs)
    text = f"replaying the run unchanged is {100 * error:+.1f} % off the measured time"
    if not graph.unexplained:
        return text
    rank, worst = graph.unexplained[0]
    late_ms = worst.total_ns / 1e6 / len(graph.steps)
    cause = (
        f"{worst.resource} of rank {rank} is late by {late_ms:.2f} ms a step without a recorded "
        f"cause, most {worst.where} {worst.name[:60]}"
    )
    return f"{text}: {cause}" if abs(error) > TOLERANCE else cause


def _usable_steps(trace: RankTrace, lines: StepLines) -> set[int]:
    steps = trace.steps
    evaluated = set(lines.index[lines.has_eval].tolist())
    good = steps.complete & ~steps.has_eval & (steps.index >= 0)
    return set(steps.index[good].tolist()) - evaluated


def _common_steps(by_rank: Sequence[set[int]]) -> tuple[int, ...]:
    """Return the longest run of consecutive steps that all ranks captured, its last MOST_STEPS."""
    common = sorted(set.intersection(*by_rank))
    best: list[int] = []
    for stretch in _stretches(common):
        if len(stretch) >= len(best):
            best = stretch
    return tuple(best[-MOST_STEPS:])


def _stretches(numbers: Sequence[int]) -> Iterator[list[int]]:
    current: list[int] = []
    for number in numbers:
        if current and number != current[-1] + 1:
            yield current
            current = []
        current.append(number)
    if current:
        yield current

"""The dependencies between the operations of a Megatron-style step, as a task graph.

Operations are coarse: forward-compute, backward-compute, the four point-to-point transfers,
parameter all-gather, gradient reductions, clipping, optimizer. Each rank runs compute in order;
every kind of transfer has a stream of its own; a receive precedes its compute and a compute its
send; after the last backward come the reductions, clipping (all ranks meet) and the optimizer.
The structure is taken from one step of one data-parallel replica and serves all of them.
Source: "Understanding Stragglers in Large Model Training Using What-if Analysis" (OSDI'25) and its
artifact ByteDance-Seed/StragglerAnalysis (dependency_model.py at 8efcd7f), for one model chunk a
stage and data-parallel reductions that do not overlap the backward pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.replay import F64, I64, NONE, TaskGraph

FORWARD, BACKWARD = "forward-compute", "backward-compute"
GATHER, REDUCE_SCATTER = "params-all-gather", "grads-reduce-scatter"
EMBEDDING, LAYER_NORM = "embedding-grads-all-reduce", "layernorm-grads-all-reduce"
CLIP, OPTIMIZER, GC = "optimizer-clip-main-grad", "optimizer", "gc"
TRANSFERS = ("forward-send", "forward-recv", "backward-send", "backward-recv")
COMMUNICATION = (*TRANSFERS, GATHER, REDUCE_SCATTER, EMBEDDING, LAYER_NORM, CLIP)
_BETWEEN_REPLICAS = (GATHER, REDUCE_SCATTER, CLIP)
_CLOCK_SLACK_S = 5e-5
_IMPOSSIBLE_S = -1e-2
"""Transfers more negative than this are broken records and count as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOps:
    """Operations of some steps; columns of shape (n,). Times in seconds, on one clock."""

    step: I64
    replica: I64  # data-parallel rank
    stage: I64
    kind: tuple[str, ...]
    sequence: I64  # of this kind within the step, on its rank
    start_s: F64
    duration_s: F64

    def __len__(self) -> int:
        return len(self.step)


Name = tuple[str, int, int]
"""Kind, sequence, stage: an operation of the template."""


@dataclass(frozen=True, slots=True)
class _Template:
    """One step of one replica: what waits for what, and which transfers belong together."""

    needs: dict[Name, list[Name]]
    groups: dict[Name, int]


def megatron_graph(ops: PipelineOps) -> TaskGraph:
    """Return the task graph of all steps; durations are measured, transfers without their waits.

    Steps are independent of each other and start at zero. Raises ValueError when the operations
    do not pair up as the model wants (a stage without its neighbour's transfer).
    """
    template = _template(ops)
    names = list(zip(ops.kind, ops.sequence.tolist(), ops.stage.tolist(), strict=True))
    row_of = {
        (step, replica, name): row
        for row, (step, replica, name) in enumerate(
            zip(ops.step.tolist(), ops.replica.tolist(), names, strict=True)
        )
    }
    sources, targets = [], []
    for (step, replica, name), row in row_of.items():
        for need in template.needs.get(name, ()):
            source = row_of.get((step, replica, need))
            if source is None:
                raise ValueError(f"step {step} lacks {need[0]} {need[1]} on stage {need[2]}")
            sources.append(source)
            targets.append(row)
    collective = _collectives(ops, names, template)
    kinds = tuple(dict.fromkeys(ops.kind))
    numbers = {kind: i for i, kind in enumerate(kinds)}
    edges = len(sources)
    return TaskGraph(
        duration_ns=1e9 * _transfer_s(ops, collective),
        resource=np.arange(len(ops)),  # the order is all in the dependencies
        kind=np.array([numbers[kind] for kind in ops.kind], np.int64),
        rank=ops.replica * (int(ops.stage.max()) + 1) + ops.stage,
        collective=collective,
        key=np.array([numbers[kind] for kind in ops.kind], np.int64),
        edge_source=np.array(sources, np.int64),
        edge_target=np.array(targets, np.int64),
        edge_lag_ns=np.zeros(edges),
        edge_kind=np.zeros(edges, np.int64),
        kinds=kinds,
    )


def _collectives(ops: PipelineOps, names: list[Name], template: _Template) -> I64:
    """Number the operations that start together: a pair or group, per step and replica."""
    found: dict[tuple[int, int, int], int] = {}
    result = np.full(len(ops), NONE, np.int64)
    for row, name in enumerate(names):
        group = template.groups.get(name, NONE)
        if group == NONE:
            continue
        replica = NONE if name[0] in _BETWEEN_REPLICAS else int(ops.replica[row])
        key = (int(ops.step[row]), group, replica)
        result[row] = found.setdefault(key, len(found))
    return result


def _transfer_s(ops: PipelineOps, collective: I64) -> F64:
    """Return durations, of communication from the last start of its group on."""
    ends = ops.start_s + ops.duration_s
    grouped = collective >= 0
    latest = np.full(int(collective.max(initial=NONE)) + 1, -np.inf)
    np.maximum.at(latest, collective[grouped], ops.start_s[grouped])
    durations = ops.duration_s.astype(np.float64)
    transfer = ends[grouped] - latest[collective[grouped]]
    durations[grouped] = np.where(transfer <= _IMPOSSIBLE_S, 0.0, transfer)
    return durations


class _Step:
    """The operations of the template step by stage, in order of start."""

    def __init__(self, ops: PipelineOps) -> None:
        chosen = (ops.step == ops.step.min()) & (ops.replica == ops.replica.min())
        self.stages = int(ops.stage.max()) + 1
        self.start: dict[Name, float] = {}
        self.end: dict[Name, float] = {}
        for row in np.nonzero(chosen)[0].tolist():
            name = (ops.kind[row], int(ops.sequence[row]), int(ops.stage[row]))
            self.start[name] = float(ops.start_s[row])
            self.end[name] = float(ops.start_s[row] + ops.duration_s[row])

    def of(self, stage: int, *kinds: str) -> list[Name]:
        """Return a stage's operations of some kinds, in order of start."""
        found = [n for n in self.start if n[2] == stage and n[0] in kinds]
        return sorted(found, key=lambda n: (self.start[n], n[1], n[0]))


def _template(ops: PipelineOps) -> _Template:
    step = _Step(ops)
    needs: dict[Name, list[Name]] = {}
    real: dict[tuple[str, int], list[Name]] = {}
    for stage in range(step.stages):
        compute = step.of(stage, FORWARD, BACKWARD)
        if not compute:
            raise ValueError(f"stage {stage} has no compute in step {ops.step.min()}")
        _chain(needs, compute)
        for kind in TRANSFERS:
            transfers = step.of(stage, kind)
            _chain(needs, transfers)
            real[kind, stage] = _attach(needs, step, transfers, compute)
        _hold_back(needs, step, stage, compute)
        gathers, scatters = step.of(stage, GATHER), step.of(stage, REDUCE_SCATTER)
        _chain(needs, step.of(stage, GATHER, REDUCE_SCATTER))
        first = next((n for n in compute if n[0] == FORWARD), None)
        if gathers and first:
            needs.setdefault(first, []).append(gathers[-1])
        tail = [n for kind in (GC, LAYER_NORM, EMBEDDING) for n in step.of(stage, kind)]
        tail += scatters + step.of(stage, CLIP) + step.of(stage, OPTIMIZER)
        _chain(needs, [max(compute, key=step.end.__getitem__), *tail])
    return _Template(needs, _groups(step, real))


def _chain(needs: dict[Name, list[Name]], names: Iterable[Name]) -> None:
    before: Name | None = None
    for name in names:
        if before is not None:
            needs.setdefault(name, []).append(before)
        before = name


def _attach(
    needs: dict[Name, list[Name]], step: _Step, transfers: list[Name], compute: list[Name]
) -> list[Name]:
    """Tie one stage's transfers of one kind to their computes; return those that are real.

    The recorder also writes transfers that were never launched: receives after the last compute,
    sends before the first, and those past either end of the pipeline.
    """
    if not transfers:
        return []
    direction, _, role = transfers[0][0].partition("-")
    stage = transfers[0][2]
    passes = [n for n in compute if n[0] == f"{direction}-compute"]
    ahead = (direction == "forward") == (role == "send")
    if not 0 <= stage + (1 if ahead else -1) < step.stages:
        return []
    if role == "recv":
        limit = max(step.start[n] for n in passes) + _CLOCK_SLACK_S
        real = [n for n in transfers if step.start[n] <= limit]
    else:
        limit = min(step.end[n] for n in passes) - _CLOCK_SLACK_S
        real = [n for n in transfers if step.end[n] >= limit]
    if len(real) != len(passes):
        raise ValueError(f"stage {stage} has {len(passes)} {direction} passes, {len(real)} {role}s")
    by_sequence = sorted(passes, key=lambda n: n[1])
    for index, (transfer, work) in enumerate(zip(real, by_sequence, strict=True)):
        if role == "send":
            needs.setdefault(transfer, []).append(work)
            continue
        needs.setdefault(work, []).append(transfer)
        if index:
            needs.setdefault(transfer, []).append(by_sequence[index - 1])
    return real


def _hold_back(needs: dict[Name, list[Name]], step: _Step, stage: int, compute: list[Name]) -> None:
    """Let the first backward transfers wait for the forward before the warm-up's last one."""
    first = next((i for i, n in enumerate(compute) if n[0] == BACKWARD), 0)
    if first < 2:
        return
    for kind in ("backward-recv", "backward-send"):
        for name in step.of(stage, kind):
            if name[1] == 0:
                needs.setdefault(name, []).append(compute[first - 2])


def _groups(step: _Step, real: dict[tuple[str, int], list[Name]]) -> dict[Name, int]:
    groups: dict[Name, int] = {}
    number = 0
    for stage in range(step.stages):
        for kind, peer_kind, peer in (
            ("forward-send", "forward-recv", stage + 1),
            ("backward-send", "backward-recv", stage - 1),
        ):
            mine, theirs = real[kind, stage], real.get((peer_kind, peer), [])
            if len(mine) != len(theirs):
                raise ValueError(f"stages {stage} and {peer} exchange unequal numbers of messages")
            for pair in zip(mine, theirs, strict=True):
                groups.update(dict.fromkeys(pair, number))
                number += 1
    alone = [n for n in step.start if n[0] in (GATHER, REDUCE_SCATTER)]
    alone += [n for n in step.start if n[0] in TRANSFERS and n not in groups]
    for name in alone:
        groups[name] = number
        number += 1
    groups.update({n: number for n in step.start if n[0] == EMBEDDING})
    groups.update({n: number + 1 for n in step.start if n[0] == CLIP})
    return groups


def step_times_s(ops: PipelineOps, end_ns: F64, start_ns: F64) -> NDArray[np.float64]:
    """Return each step's span, first start to last end, in the order of the step numbers."""
    _, place = np.unique(ops.step, return_inverse=True)
    steps = int(place.max()) + 1
    ends, starts = np.full(steps, -np.inf), np.full(steps, np.inf)
    np.maximum.at(ends, place, end_ns)
    np.minimum.at(starts, place, start_ns)
    span: F64 = (ends - starts) / 1e9
    return span

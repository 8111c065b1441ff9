"""A pipeline step played out event by event: the check on the formulas, and unequal stages.

Every stage runs its passes in a fixed order; a forward waits for the forward of the stage
before, a backward for the backward of the stage behind, a weight pass for its own backward.
Transfers are free unless given a time. This is the textbook model, not a network simulation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfkit.roofline.pipeline import (
    GPIPE,
    INTERLEAVED,
    NAIVE,
    ONE_F_ONE_B,
    ZB_H1,
    PassTimes,
    Shape,
)


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch through one chunk: kind "F", "B" or "W"."""

    kind: str
    micro_batch: int
    chunk: int = 0


Order = tuple[Pass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """The outcome of a simulated step; tuples run over stages."""

    makespan_s: float
    busy_s: tuple[float, ...]
    idle_s: tuple[float, ...]  # makespan less busy: the bubble, fill and drain included
    span_s: tuple[float, ...]  # first start to last end
    in_flight: tuple[int, ...]


def orders(schedule: str, shape: Shape) -> tuple[Order, ...]:
    """Return each stage's passes in the order that `schedule` prescribes (else ValueError)."""
    stages = range(shape.stages)
    if schedule == NAIVE:
        one_by_one = tuple(Pass(k, i) for i in range(shape.micro_batches) for k in "FB")
        return (one_by_one,) * shape.stages
    if schedule == GPIPE:
        m = range(shape.micro_batches)
        return ((*(Pass("F", i) for i in m), *(Pass("B", i) for i in m)),) * shape.stages
    if schedule == ONE_F_ONE_B:
        return tuple(_one_f_one_b(s, shape) for s in stages)
    if schedule == INTERLEAVED:
        return tuple(_interleaved(s, shape) for s in stages)
    if schedule == ZB_H1:
        return tuple(_with_delayed_weights(_one_f_one_b(s, shape), s) for s in stages)
    raise ValueError(f"no order known for schedule {schedule!r}")


def play(
    stage_orders: Sequence[Order],
    times: Sequence[PassTimes],
    shape: Shape,
    *,
    send_s: float = 0.0,
    on_demand: bool = False,
) -> Played:
    """Run the step. `times` has one entry a stage; a chunk takes 1/chunks of its stage's time.

    `send_s` delays every hand-over between stages, from the end of the pass that sends or, with
    `on_demand`, from when the receiving stage is ready too: where receives are posted only then,
    as torch.distributed.pipelining does. Orders that wait for each other: ValueError.
    """
    costs = [_costs(t, o, shape.chunks) for t, o in zip(times, stage_orders, strict=True)]
    ends: dict[tuple[int, Pass], float] = {}
    clock = [0.0] * shape.stages
    first = [0.0] * shape.stages
    position = [0] * shape.stages
    todo = sum(len(order) for order in stage_orders)
    while todo:
        moved = False
        for s, order in enumerate(stage_orders):
            while position[s] < len(order):
                task = order[position[s]]
                ready = _ready(task, s, shape, ends)
                if ready is None:
                    break
                end, sent = ready
                delay = send_s if sent else 0.0
                start = max(clock[s], end) + delay if on_demand else max(clock[s], end + delay)
                if position[s] == 0:
                    first[s] = start
                clock[s] = ends[s, task] = start + costs[s][task.kind]
                position[s] += 1
                todo -= 1
                moved = True
        if not moved:
            raise ValueError("the orders of the stages wait for each other")
    return _outcome(stage_orders, costs, clock, first)


def _outcome(
    stage_orders: Sequence[Order],
    costs: Sequence[Mapping[str, float]],
    clock: Sequence[float],
    first: Sequence[float],
) -> Played:
    makespan = max(clock)
    busy = tuple(
        sum(cost[task.kind] for task in order)
        for order, cost in zip(stage_orders, costs, strict=True)
    )
    return Played(
        makespan_s=makespan,
        busy_s=busy,
        idle_s=tuple(makespan - b for b in busy),
        span_s=tuple(end - start for end, start in zip(clock, first, strict=True)),
        in_flight=tuple(_peak(order) for order in stage_orders),
    )


def _costs(times: PassTimes, order: Order, chunks: int) -> dict[str, float]:
    split = any(task.kind == "W" for task in order)
    backward = times.backward_s - times.weight_s if split else times.backward_s
    return {
        "F": times.forward_s / chunks,
        "B": backward / chunks,
        "W": times.weight_s / chunks,
    }


def _ready(
    task: Pass, stage: int, shape: Shape, ends: Mapping[tuple[int, Pass], float]
) -> tuple[float, bool] | None:
    """Return when the task's input was made and whether it is sent here; None before that."""
    source = _source(task, stage, shape)
    if source is None:
        return 0.0, False
    end = ends.get(source)
    return None if end is None else (end, source[0] != stage)


def _source(task: Pass, stage: int, shape: Shape) -> tuple[int, Pass] | None:
    """Return the pass that makes a task's input, and its stage; None for the batch itself."""
    last = shape.stages - 1
    if task.kind == "W":
        return stage, Pass("B", task.micro_batch, task.chunk)
    step = -1 if task.kind == "F" else 1
    edge = 0 if task.kind == "F" else last
    if stage != edge:
        return stage + step, task
    if 0 <= task.chunk + step < shape.chunks:
        return last - edge, Pass(task.kind, task.micro_batch, task.chunk + step)
    if task.kind == "F":
        return None
    return stage, Pass("F", task.micro_batch, task.chunk)  # the last chunk turns around


def _peak(order: Order) -> int:
    frees = "W" if any(task.kind == "W" for task in order) else "B"
    held = peak = 0
    for task in order:
        held += (task.kind == "F") - (task.kind == frees)
        peak = max(peak, held)
    return peak


def _one_f_one_b(stage: int, shape: Shape) -> Order:
    m = shape.micro_batches
    return _steady(
        [Pass("F", i) for i in range(m)],
        [Pass("B", i) for i in range(m)],
        min(shape.stages - stage - 1, m),
    )


def _steady(forwards: list[Pass], backwards: list[Pass], warm_up: int) -> Order:
    tasks = forwards[:warm_up]
    for forward, backward in zip(forwards[warm_up:], backwards, strict=False):
        tasks += [forward, backward]
    return (*tasks, *backwards[len(forwards) - warm_up :])


def _interleaved(stage: int, shape: Shape) -> Order:
    p, m, v = shape.stages, shape.micro_batches, shape.chunks
    if m % p:
        raise ValueError("interleaved 1F1B needs micro-batches in multiples of the stages")
    forwards, backwards = [], []
    for k in range(m * v):
        micro_batch, chunk = (k // (p * v)) * p + k % p, k % (p * v) // p
        forwards.append(Pass("F", micro_batch, chunk))
        backwards.append(Pass("B", micro_batch, v - 1 - chunk))
    warm_up = min(2 * (p - stage - 1) + (v - 1) * p, m * v)
    return _steady(forwards, backwards, warm_up)


def _with_delayed_weights(order: Order, delay: int) -> Order:
    """Put each weight pass behind the backward `delay` micro-batches later: ZB-H1."""
    tasks: list[Pass] = []
    pending: list[Pass] = []
    for task in order:
        tasks.append(task)
        if task.kind == "B":
            pending.append(Pass("W", task.micro_batch, task.chunk))
            if len(pending) > delay:
                tasks.append(pending.pop(0))
    return (*tasks, *pending)

"""How much of a pipeline-parallel step is bubble, by formula, for each published schedule.

Two conventions are in use and differ: bubble over ideal time (Megatron-LM) and bubble over the
whole step (GPipe, zero-bubble papers). Both are given, never one under the other's name.
Sources: GPipe (Huang et al. 2019), Narayanan et al. 2021 (1F1B, interleaved), Qi et al. 2024
(zero-bubble; ZB-H1 and ZB-H2). Assumes equal stages, equal micro-batches and free point-to-point
transfers; `schedule_simulation` gives the same numbers by events and takes unequal times as well.
"""

from dataclasses import dataclass

NAIVE = "naive"
GPIPE = "gpipe"
ONE_F_ONE_B = "1f1b"
INTERLEAVED = "interleaved"
ZB_H1 = "zb-h1"
ZB_H2 = "zb-h2"
SCHEDULES = (NAIVE, GPIPE, ONE_F_ONE_B, INTERLEAVED, ZB_H1, ZB_H2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A pipeline: stages p, micro-batches m, model chunks a stage v (interleaved only)."""

    stages: int
    micro_batches: int
    chunks: int = 1

    def __post_init__(self) -> None:
        if min(self.stages, self.micro_batches, self.chunks) < 1:
            raise ValueError("stages, micro-batches and chunks are at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTimes:
    """Time of one micro-batch through one whole stage (all its chunks).

    `weight_s` is the part of the backward pass that only computes weight gradients; a schedule
    that cannot delay it runs it together with the rest of the backward.
    """

    forward_s: float
    backward_s: float  # the whole backward: gradients of inputs and of weights
    weight_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.forward_s, self.backward_s, self.weight_s) < 0:
            raise ValueError("times must not be negative")
        if self.weight_s > self.backward_s:
            raise ValueError("the weight part cannot exceed the whole backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """A step's bubble on each stage, under both conventions."""

    bubble_s: float
    ideal_s: float
    makespan_s: float
    over_ideal: float
    over_total: float


def bubble(schedule: str, shape: Shape, times: PassTimes) -> Bubble:
    """Return the bubble by the schedule's published formula (ValueError for an unknown name).

    Interleaving needs micro-batches in multiples of the stages. ZB-H1's formula holds when
    forward, input-gradient and weight times are within the paper's regime (m >= p, B >= W).
    """
    p, fill = shape.stages, times.forward_s + times.backward_s
    seconds: float
    if schedule in (NAIVE, GPIPE, ONE_F_ONE_B):
        seconds = (p - 1) * fill
        if schedule == NAIVE:
            seconds *= shape.micro_batches
    elif schedule == INTERLEAVED:
        if shape.micro_batches % p:
            raise ValueError("interleaved 1F1B needs micro-batches in multiples of the stages")
        seconds = (p - 1) * fill / shape.chunks
    elif schedule == ZB_H1:
        # F + B + W of the paper less 2W: its B is our backward without W.
        seconds = (p - 1) * (fill - 2 * times.weight_s)
    elif schedule == ZB_H2:
        seconds = 0.0
    else:
        raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    return _as_bubble(seconds, shape.micro_batches * fill)


def in_flight(schedule: str, shape: Shape) -> tuple[int, ...]:
    """Return, by stage, the peak number of micro-batches (chunks, if interleaved) held at once."""
    p, m, v = shape.stages, shape.micro_batches, shape.chunks
    if schedule == NAIVE:
        return (1,) * p
    if schedule == GPIPE:
        return (m,) * p
    if schedule == ONE_F_ONE_B:
        return tuple(min(p - s, m) for s in range(p))
    if schedule == INTERLEAVED:
        return tuple(min(2 * (p - s - 1) + (v - 1) * p + 1, v * m) for s in range(p))
    if schedule == ZB_H1:
        return (min(p, m),) * p
    if schedule == ZB_H2:
        return (min(2 * p - 1, m),) * p
    raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")


def enough_micro_batches(stages: int, largest_over_total: float) -> int:
    """Return the fewest micro-batches that keep 1F1B's bubble at or under a share of the step."""
    if not 0 < largest_over_total < 1:
        raise ValueError("the share lies strictly between 0 and 1")
    m = 1
    while (stages - 1) / (m + stages - 1) > largest_over_total:
        m += 1
    return m


def _as_bubble(bubble_s: float, ideal_s: float) -> Bubble:
    total = bubble_s + ideal_s
    return Bubble(
        bubble_s=bubble_s,
        ideal_s=ideal_s,
        makespan_s=total,
        over_ideal=bubble_s / ideal_s if ideal_s else 0.0,
        over_total=bubble_s / total if total else 0.0,
    )

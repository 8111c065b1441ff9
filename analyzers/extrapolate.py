"""What a step would take on N ranks, from the bucket times of one trace.

Gradient buckets become ready during the backward pass and go over one communication stream, in
order: finish_b = max(finish_(b-1), ready_b) + cost_b(N). What is finished after the backward pass
is exposed (models.md 4.5). Valid while the per-rank work stays (weak scaling), buckets keep their
order, and the cost model holds on N ranks; skew between ranks comes on top (`scaling_model`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

BucketCost = Callable[[int, int], float]
"""(bytes, ranks) -> seconds of one all-reduce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """When each bucket is through, and what communication adds to the backward pass."""

    finish_s: tuple[float, ...]  # from the start of the backward pass
    exposed_s: float  # beyond the undisturbed backward pass, contention included


def ddp_overlap(
    ready_s: Sequence[float],
    cost_s: Sequence[float],
    backward_s: float,
    *,
    contention: float = 0.0,
) -> Overlap:
    """Play the buckets of one backward pass; times count from its start.

    `contention` is the relative slow-down of compute while a collective runs (kappa, measured as
    the duration of one kernel overlapped over not overlapped, less one). It stretches the backward
    pass and the ready times in proportion to the time overlapped before them (fixed point of the
    stretched schedule; converges for contention < 1).
    """
    if len(ready_s) != len(cost_s):
        raise ValueError("one cost a bucket")
    if not 0 <= contention < 1:
        raise ValueError("contention lies in [0, 1)")
    ready, end = list(ready_s), backward_s
    finish = _play(ready, cost_s)
    for _ in range(100 if contention else 0):
        busy = [(f - c, f) for f, c in zip(finish, cost_s, strict=True)]
        before = (end, *ready)
        ready = [
            r + contention * _overlap(busy, old) for r, old in zip(ready_s, ready, strict=True)
        ]
        end = backward_s + contention * _overlap(busy, end)
        finish = _play(ready, cost_s)
        if all(abs(a - b) <= 1e-12 * end for a, b in zip(before, (end, *ready), strict=True)):
            break
    last = finish[-1] if finish else 0.0
    return Overlap(finish_s=tuple(finish), exposed_s=max(last, end, backward_s) - backward_s)


def _play(ready_s: Sequence[float], cost_s: Sequence[float]) -> list[float]:
    finish: list[float] = []
    now = 0.0
    for ready, cost in zip(ready_s, cost_s, strict=True):
        now = max(now, ready) + cost
        finish.append(now)
    return finish


def _overlap(busy: Sequence[tuple[float, float]], until: float) -> float:
    return sum(max(0.0, min(end, until) - start) for start, end in busy if start < until)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """One rank's step as a trace shows it, without communication."""

    forward_s: float
    backward_s: float
    optimizer_s: float
    host_s: float = 0.0  # whatever else is exposed: input, launches, logging
    bucket_bytes: tuple[int, ...]
    ready_s: tuple[float, ...]  # from the start of the backward pass, in the order of issue


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A step on N ranks; efficiency is against one rank with the same work (weak scaling)."""

    ranks: int
    exposed_s: float
    step_s: float
    efficiency: float


def predict_step(
    parts: StepParts,
    ranks: int,
    cost: BucketCost,
    *,
    skew_s: float = 0.0,
    contention: float = 0.0,
) -> Predicted:
    """Return the step on `ranks` ranks with bucket costs from `cost` and a given skew."""
    alone = parts.forward_s + parts.backward_s + parts.optimizer_s + parts.host_s
    exposed = 0.0
    if ranks > 1:
        costs = [cost(size, ranks) for size in parts.bucket_bytes]
        overlap = ddp_overlap(parts.ready_s, costs, parts.backward_s, contention=contention)
        exposed = overlap.exposed_s
    step = alone + exposed + (skew_s if ranks > 1 else 0.0)
    return Predicted(ranks=ranks, exposed_s=exposed, step_s=step, efficiency=alone / step)

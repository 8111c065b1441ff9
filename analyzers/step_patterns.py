"""Slow steps and what makes them slow; slow steps that come back; drift. From step lines alone."""

from collections import Counter

import numpy as np

from perfkit.analyzers.result import Periodicity, SlowStep
from perfkit.analyzers.step_table import F64, SteadySteps, StepTable
from perfkit.trace.model import I64, Bool

SLOW_RATIO = 1.5
"""A step is slow if it takes this much of the median step, and stands out of the spread."""
SLOW_DEVIATIONS = 5.0
CAUSE_SHARE = 0.5
"""A part explains a slow step if it makes up at least this share of the excess."""
NOTABLE_SHARE = 0.05
"""A pause is worth a period of its own from this share of the median step on."""
LEAST_REPEATS = 3
REGULAR_SHARE = 0.7
MOST_SLOW_STEPS = 20


def find_slow_steps(table: StepTable, steady: SteadySteps) -> tuple[SlowStep, ...]:
    """List the steps that took far longer than the steady ones, the slowest first."""
    if not steady.mask.any():
        return ()
    slow, median = _slow_mask(table, steady)
    causes = _causes(table, steady, median)
    found = [
        SlowStep(
            step=int(table.step[row]),
            rank=int(table.slowest_rank[row]),
            ms=float(table.slowest_ms[row]),
            over_median=float(table.slowest_ms[row] / median),
            cause=causes[row],
        )
        for row in np.flatnonzero(slow)
    ]
    found.sort(key=lambda s: (-s.over_median, s.step))
    return tuple(found[:MOST_SLOW_STEPS])


def find_periods(table: StepTable, steady: SteadySteps) -> tuple[Periodicity, ...]:
    """Find causes that return every N steps: checkpoints, evaluations, collections, slow steps."""
    if not steady.mask.any():
        return ()
    slow, median = _slow_mask(table, steady)
    causes = np.array(_causes(table, steady, median))
    notable = NOTABLE_SHARE * median
    past_warm_up = np.arange(len(table.step)) >= steady.first
    found = []
    # What a step line records of a pause holds under the profiler too; a step's length does not.
    for cause, part in (("checkpoint", table.checkpoint_ms), ("gc", table.gc_ms)):
        spent = _most(part)
        found.append(_periodicity(cause, table.step, spent, past_warm_up, spent > notable))
    marks = {"eval": table.has_eval}
    marks |= {cause: slow & (causes == cause) for cause in ("input_wait", "unknown")}
    for cause, mark in marks.items():
        plain = past_warm_up & ~table.profiled
        found.append(_periodicity(cause, table.step, table.slowest_ms, plain, mark))
    return tuple(period for period in found if period is not None)


def _periodicity(cause: str, step: I64, ms: F64, among: Bool, mark: Bool) -> Periodicity | None:
    """Return the rhythm of the marked steps, and how much longer `ms` is in them."""
    marked, others = ms[among & mark], ms[among & ~mark]
    every = _period(step[among & mark])
    if every is None or not len(others):
        return None
    extra = float(np.median(marked)) - float(np.median(others))
    return Periodicity(every=every, cause=cause, extra_ms=extra, count=len(marked))


def drift_percent(ms: F64) -> float | None:
    """Return by how many percent the last third of the steps is slower than the first third."""
    third = len(ms) // 3
    if third < 5:
        return None
    first, last = float(np.median(ms[:third])), float(np.median(ms[-third:]))
    return 100.0 * (last - first) / first if first > 0 else None


def _slow_mask(table: StepTable, steady: SteadySteps) -> tuple[Bool, float]:
    usual = table.slowest_ms[steady.mask]
    median = float(np.median(usual))
    spread = 1.4826 * float(np.median(np.abs(usual - median)))
    after_profile = np.zeros(len(table.step), dtype=np.bool_)
    after_profile[1:] = table.profiled[:-1]
    ms = table.slowest_ms
    slow = (ms > SLOW_RATIO * median) & (ms - median > SLOW_DEVIATIONS * spread)
    past_warm_up = np.arange(len(table.step)) >= steady.first
    return slow & past_warm_up & ~table.profiled & ~after_profile, median


def _causes(table: StepTable, steady: SteadySteps, median: float) -> list[str]:
    """Name for each step the recorded part that explains most of its excess."""
    parts = {
        "checkpoint": _most(table.checkpoint_ms),
        "input_wait": _most(table.input_ms),
        "gc": _most(table.gc_ms),
        "compile": _most(table.compile_ms),
    }
    above = {c: ms - float(np.median(ms[steady.mask])) for c, ms in parts.items()}
    names = list(above)
    excess = table.slowest_ms - median
    stacked = np.stack([above[c] for c in names])
    best = stacked.argmax(axis=0)
    explained = stacked.max(axis=0) >= CAUSE_SHARE * np.maximum(excess, 1e-9)
    return [
        names[best[row]] if explained[row] else ("eval" if table.has_eval[row] else "unknown")
        for row in range(len(table.step))
    ]


def _most(ms: F64) -> F64:
    return np.asarray(np.nanmax(np.nan_to_num(ms), axis=1))


def _period(steps: I64) -> int | None:
    if len(steps) < LEAST_REPEATS:
        return None
    distances = np.diff(steps).tolist()
    (every, count), *_ = Counter(distances).most_common(1)
    return int(every) if every > 1 and count >= REGULAR_SHARE * len(distances) else None

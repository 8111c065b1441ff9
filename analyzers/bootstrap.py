"""Intervals by resampling that respect runs within arms and the correlation between steps.

Steps follow each other, so they are drawn in blocks of ceil(n^(1/3)); runs are drawn first.
Below about 12 runs a percentile bootstrap over runs is too optimistic (recipes.md section 4):
use `statistics.paired_t` to decide, and this to show spread. Seeds come from the caller.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Statistic = Callable[[F64], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A point estimate with a percentile bootstrap interval."""

    point: float
    low: float
    high: float


def block_length(steps: int) -> int:
    """Return ceil(n^(1/3)), the length of a block of consecutive steps."""
    return max(1, ceil(round(math.cbrt(steps), 9)))


def block_indices(
    generator: np.random.Generator, steps: int, draws: int, length: int | None = None
) -> NDArray[np.int64]:
    """Return (draws, steps) step numbers: moving blocks, laid end to end and cut to length."""
    length = length or block_length(steps)
    blocks = ceil(steps / length)
    starts = generator.integers(0, steps - length + 1, size=(draws, blocks))
    laid = starts[:, :, None] + np.arange(length)
    return laid.reshape(draws, -1)[:, :steps]


def block_bootstrap(
    series: Sequence[float] | F64,
    statistic: Statistic,
    *,
    seed: int,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of `statistic` over one run's steps, in their order."""
    values = np.asarray(series, np.float64)
    picks = block_indices(np.random.default_rng(seed), len(values), draws)
    outcomes = np.array([statistic(values[row]) for row in picks])
    return _interval(statistic(values), outcomes, confidence)


def hierarchical_ratio(
    baseline: Sequence[Sequence[float]],
    variant: Sequence[Sequence[float]],
    *,
    seed: int,
    draws: int = 5000,
    confidence: float = 0.95,
) -> Interval:
    """Return median(variant) / median(baseline) over per-run medians, resampled at both levels.

    Each arm is a sequence of runs, each a sequence of step times. Runs are drawn with
    replacement, then blocks of steps within each drawn run (models.md section 7).
    """
    generator = np.random.default_rng(seed)
    point = _arm(variant) / _arm(baseline)
    above = _resampled_medians(variant, generator, draws)
    below = _resampled_medians(baseline, generator, draws)
    return _interval(point, above / below, confidence)


def run_level(
    values: Sequence[float],
    statistic: Statistic,
    *,
    seed: int,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of `statistic` over independent runs."""
    data = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(data), size=(draws, len(data)))
    outcomes = np.array([statistic(data[row]) for row in picks])
    return _interval(statistic(data), outcomes, confidence)


def _arm(runs: Sequence[Sequence[float]]) -> float:
    return float(np.median([np.median(np.asarray(run, float)) for run in runs]))


def _resampled_medians(
    runs: Sequence[Sequence[float]], generator: np.random.Generator, draws: int
) -> F64:
    """Return (draws,) medians over resampled runs of the medians of their resampled steps."""
    arrays = [np.asarray(run, np.float64) for run in runs]
    chosen = generator.integers(0, len(arrays), size=(draws, len(arrays)))
    medians = np.empty(chosen.shape)
    for index, steps in enumerate(arrays):
        places = np.nonzero(chosen == index)
        picks = block_indices(generator, len(steps), len(places[0]))
        medians[places] = np.median(steps[picks], axis=1)
    result: F64 = np.median(medians, axis=1)
    return result


def _interval(point: float, outcomes: F64, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(outcomes, (tail, 1 - tail))
    return Interval(point=point, low=float(low), high=float(high))

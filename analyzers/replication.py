"""At which level to repeat a measurement: the nested model of Kalibera & Jones (2013).

Level 1 is the innermost (steps), the last the outermost (runs, or builds). S_i^2 is the observed
variance between means at level i, T_i^2 = S_i^2 - S_(i-1)^2 / r_(i-1) its unbiased part; a T_i^2
at or below zero means that repeating at that level buys nothing. Source: softdevteam/libkalibera.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """The variances by level, innermost first, and the interval of the grand mean."""

    mean: float
    observed: tuple[float, ...]  # S_i^2
    unbiased: tuple[float, ...]  # T_i^2
    half_width: float  # of the mean, at the confidence asked for


def nested(measurements: NDArray[np.float64], *, confidence: float = 0.95) -> Nested:
    """Return the decomposition of an array with axes (outermost, ..., innermost).

    Every axis needs at least two repetitions (ValueError), since one has no variance.
    """
    data = np.asarray(measurements, np.float64)
    if data.ndim < 1 or min(data.shape) < 2:
        raise ValueError("every level needs two repetitions at least")
    observed: list[float] = []
    means = data
    while means.ndim:
        observed.append(float(np.mean(np.var(means, axis=-1, ddof=1))))
        means = means.mean(axis=-1)
    counts = data.shape[::-1]
    unbiased = [observed[0]]
    unbiased += [observed[i] - observed[i - 1] / counts[i - 1] for i in range(1, len(observed))]
    runs = data.shape[0]
    t = float(stats.t.ppf(0.5 + confidence / 2, runs - 1))
    return Nested(
        mean=float(data.mean()),
        observed=tuple(observed),
        unbiased=tuple(unbiased),
        half_width=t * sqrt(observed[-1] / runs),
    )


def repetitions(unbiased: Sequence[float], costs: Sequence[float]) -> tuple[int, ...]:
    """Return the cheapest repetitions of every level but the outermost, innermost first.

    r_i = ceil(sqrt(c_(i+1) / c_i * T_i^2 / T_(i+1)^2)); `costs` are those of one repetition of
    each level, innermost first. Where a variance is not positive one repetition is enough inside
    (T_i^2 <= 0), and no finite number pays outside (T_(i+1)^2 <= 0): ValueError.
    """
    counts = []
    for i in range(len(unbiased) - 1):
        inner, outer = unbiased[i], unbiased[i + 1]
        if outer <= 0 < inner:
            raise ValueError(f"level {i + 2} shows no variance of its own: repeat level {i + 1}")
        wanted = sqrt(costs[i + 1] / costs[i] * inner / outer) if inner > 0 else 1.0
        counts.append(max(1, ceil(wanted)))
    return tuple(counts)

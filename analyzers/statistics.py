"""How sure a comparison of runs can be: paired tests, sample sizes, proportions, many tests.

The unit of replication is a run (or an in-process block), never a step: steps of one run are
correlated, and treating them as replicates calls identical code "faster" 20 to 65 % of the time
(recipes.md section 4). The paired t on log ratios of per-run medians is calibrated at every k.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy import stats

from perfkit.analyzers.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRatio:
    """Baseline over variant, pair by pair: above 1 the variant is faster."""

    pairs: int
    ratio: float  # geometric mean
    median_ratio: float
    low: float  # two-sided confidence limits of the geometric mean
    high: float
    log_sd: float
    p_value: float  # two-sided, of "no difference"
    same_direction: int  # pairs on the same side of 1 as the geometric mean


def paired_t(
    baseline: Sequence[float], variant: Sequence[float], *, confidence: float = 0.95
) -> PairedRatio | Refusal:
    """Compare two arms run by run with Student's t on log(baseline / variant).

    Entry i of both arms is one pair, measured side by side; values are per-run medians, any
    positive unit. Two pairs at least; pairs with exactly equal ratios have a zero-width interval.
    """
    if len(baseline) != len(variant):
        raise ValueError("both arms need the same number of runs")
    if len(baseline) < 2:
        return Refusal(reason="one pair has no spread", remedy="repeat the measurement")
    if min(*baseline, *variant) <= 0:
        raise ValueError("times must be positive")
    logs = np.log(np.asarray(baseline, float) / np.asarray(variant, float))
    n, mean, sd = len(logs), float(logs.mean()), float(logs.std(ddof=1))
    error = sd / sqrt(n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    distance = abs(mean) / error if error else (math.inf if mean else 0.0)
    return PairedRatio(
        pairs=n,
        ratio=exp(mean),
        median_ratio=exp(float(np.median(logs))),
        low=exp(mean - half),
        high=exp(mean + half),
        log_sd=sd,
        p_value=float(2 * stats.t.sf(distance, n - 1)),
        same_direction=int(np.count_nonzero(logs * mean > 0)),
    )


def minimum_detectable_effect(
    log_sd: float, pairs: int, *, power: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the least log ratio that `pairs` pairs find with the given power.

    (t[1-a/2, k-1] + t[power, k-1]) * sd / sqrt(k), sd of the log ratios of A/A pairs.
    """
    if pairs < 2:
        raise ValueError("two pairs at least")
    t = stats.t.ppf([0.5 + confidence / 2, power], pairs - 1)
    return float(t.sum()) * log_sd / sqrt(pairs)


def pairs_needed(log_sd: float, *, ratio: float, least: int = 5, most: int = 12) -> int | None:
    """Return the fewest pairs that resolve `ratio` (such as 1.03); None if even `most` do not."""
    wanted = abs(log(ratio))
    for pairs in range(least, most + 1):
        if minimum_detectable_effect(log_sd, pairs) <= wanted:
            return pairs
    return None


def runs_per_arm(
    variation: float, effect: float, *, power: float = 0.8, confidence: float = 0.95
) -> float:
    """Return 2 (z[1-a/2] + z[power])^2 (CV / effect)^2, unrounded: independent arms, normal."""
    z = stats.norm.ppf([0.5 + confidence / 2, power]).sum()
    return float(2 * z**2 * (variation / effect) ** 2)


def detectable_difference(
    variation: float, runs: int, *, power: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the relative difference that `runs` runs an arm find: the inverse of runs_per_arm."""
    z = stats.norm.ppf([0.5 + confidence / 2, power]).sum()
    return float(z * variation * sqrt(2 / runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share of successes with its Wilson score interval."""

    share: float
    low: float
    high: float
    trials: int


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Proportion | Refusal:
    """Return the Wilson score interval, which stays inside [0, 1] and works at 0 and n."""
    if trials == 0:
        return Refusal(reason="no trials")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share, shrink = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Proportion(
        share=share,
        low=max(0.0, centre - half) if successes else 0.0,
        high=min(1.0, centre + half) if successes < trials else 1.0,
        trials=trials,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's step-down adjusted p-values: valid for any dependence between the tests."""
    adjusted: dict[str, float] = {}
    running = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for index, (name, p) in enumerate(ordered):
        running = max(running, min(1.0, p * (len(ordered) - index)))
        adjusted[name] = running
    return adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedMean:
    """MLPerf's mean: fastest and slowest dropped; sd without Bessel's correction, as they do."""

    mean: float
    sd: float


def olympic_mean(values: Sequence[float]) -> TrimmedMean:
    """Return the mean of the values without one least and one largest (MLPerf training rules)."""
    if len(values) < 3:
        raise ValueError("three values at least")
    kept = np.sort(np.asarray(values, float))[1:-1]
    return TrimmedMean(mean=float(kept.mean()), sd=float(kept.std()))


def least_allowed_mean(reference: TrimmedMean, runs: int, *, submissions: int = 3) -> float:
    """Return MLPerf's RCP bound: the lowest mean of epochs that is not faster by luck.

    mean - t[0.95, df] * sd * sqrt(1/n1 + 1/n2), n1 = runs kept, df = n1 + n2 - 2.
    """
    kept = runs - 2
    freedom = kept + submissions - 2
    t = float(stats.t.ppf(0.95, freedom))
    return reference.mean - t * reference.sd * sqrt(1 / kept + 1 / submissions)


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the mean that ratios across workloads need."""
    return exp(sum(log(r) for r in ratios) / len(ratios))

"""The Universal Scalability Law: X(N) = gamma N / (1 + alpha (N-1) + beta N (N-1)).

alpha is contention (queueing for something serial), beta coherency (pairwise exchange), gamma the
throughput of one. With beta = 0 it is Amdahl's law. Source: Gunther 2007; fit as in CRAN's `usl`
(bounded non-linear least squares). Intervals: residual bootstrap, because the delta method is
invalid at a bound, and the package's own confint takes the wrong quantile. Needs six points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from perfkit.analyzers.refusal import Refusal

LEAST_POINTS = 6
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class UslFit:
    """The three coefficients with 95 % intervals, and what follows from them."""

    alpha: float
    beta: float
    gamma: float
    alpha_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    gamma_interval: tuple[float, float]
    residual_sd: float  # in units of throughput, n - 3 degrees of freedom

    def throughput(self, ranks: float) -> float:
        """Return X(N)."""
        return throughput(ranks, self.alpha, self.beta, self.gamma)

    @property
    def peak_ranks(self) -> float:
        """The N of greatest throughput: sqrt((1-alpha)/beta); infinite without coherency."""
        return peak_ranks(self.alpha, self.beta)

    @property
    def amdahl_limit(self) -> float:
        """The throughput that contention alone would allow: gamma / alpha."""
        return self.gamma / self.alpha if self.alpha > 0 else inf

    @property
    def optimal_ranks(self) -> float:
        """The N = 1/alpha at which linear growth would meet Amdahl's limit."""
        return 1 / self.alpha if self.alpha > 0 else inf


def throughput(ranks: float, alpha: float, beta: float, gamma: float) -> float:
    """Return X(N) of the law."""
    return gamma * ranks / (1 + alpha * (ranks - 1) + beta * ranks * (ranks - 1))


def peak_ranks(alpha: float, beta: float) -> float:
    """Return the N of greatest throughput."""
    return sqrt((1 - alpha) / beta) if beta > 0 else inf


def fit_usl(
    ranks: Sequence[float],
    rates: Sequence[float],
    *,
    seed: int,
    draws: int = 300,
    relative: bool = False,
    least_points: int = LEAST_POINTS,
) -> UslFit | Refusal:
    """Fit the law to throughputs at several numbers of ranks (or of anything that is scaled).

    `relative` weights each point by 1/X, right where X spans decades. Repeated points are allowed;
    six distinct numbers of ranks are needed (`least_points` is lowered by cross-validation only).
    """
    x, y = np.asarray(ranks, np.float64), np.asarray(rates, np.float64)
    if len(np.unique(x)) < least_points:
        return Refusal(
            reason=f"{len(np.unique(x))} points are too few for the scalability law",
            remedy=f"measure {LEAST_POINTS} numbers of ranks, two of them past the knee",
        )
    if y.min() <= 0 or x.min() < 1:
        raise ValueError("throughputs and rank counts must be positive")
    weights = 1 / y if relative else np.ones_like(y)
    solution = _fit(x, y, weights)
    fitted = _curve(solution, x)
    residuals = (y - fitted) * weights
    freedom = max(len(y) - 3, 1)
    boot = _bootstrap(x, fitted, residuals, weights, seed=seed, draws=draws)
    low, high = np.quantile(np.vstack([boot, solution]), (0.025, 0.975), axis=0)
    spans = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return UslFit(
        alpha=float(solution[0]),
        beta=float(solution[1]),
        gamma=float(solution[2]),
        alpha_interval=spans[0],
        beta_interval=spans[1],
        gamma_interval=spans[2],
        residual_sd=float(sqrt(((y - fitted) ** 2).sum() / freedom)),
    )


def _curve(solution: F64, x: F64) -> F64:
    alpha, beta, gamma = solution
    curve: F64 = gamma * x / (1 + alpha * (x - 1) + beta * x * (x - 1))
    return curve


def _fit(x: F64, y: F64, weights: F64) -> F64:
    start = np.array([0.01, 1e-4, float((y / x).max())])
    best = least_squares(
        lambda s: (_curve(s, x) - y) * weights,
        start,
        bounds=([0, 0, 0], [1, 1, np.inf]),
        x_scale=[0.01, 1e-4, start[2]],
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )
    solution: F64 = best.x
    # An interior-point solver stops just short of a bound; take the bound where it is no worse.
    for index in (0, 1):
        at_bound = solution.copy()
        at_bound[index] = 0.0
        refined = _fit_without(index, x, y, weights, at_bound)
        if _loss(refined, x, y, weights) <= _loss(solution, x, y, weights) * (1 + 1e-9):
            solution = refined
    return solution


def _fit_without(index: int, x: F64, y: F64, weights: F64, start: F64) -> F64:
    free = [i for i in range(3) if i != index]

    def whole(part: F64) -> F64:
        full = start.copy()
        full[free] = part
        return full

    limits = np.array([1.0, 1.0, np.inf])[free]
    best = least_squares(
        lambda part: (_curve(whole(part), x) - y) * weights,
        np.clip(start[free], 1e-9, limits - 1e-9),
        bounds=([0, 0], limits),
        x_scale=np.array([0.01, 1e-4, start[2]])[free],
    )
    return whole(best.x)


def _loss(solution: F64, x: F64, y: F64, weights: F64) -> float:
    return float((((_curve(solution, x) - y) * weights) ** 2).sum())


def _bootstrap(x: F64, fitted: F64, residuals: F64, weights: F64, *, seed: int, draws: int) -> F64:
    """Return (draws, 3) refits of the fitted curve with resampled, inflated residuals."""
    generator = np.random.default_rng(seed)
    centred = (residuals - residuals.mean()) * sqrt(len(x) / (len(x) - 3))
    solutions = []
    for _ in range(draws):
        drawn = centred[generator.integers(0, len(x), len(x))]
        y = np.maximum(fitted + drawn / weights, 1e-12)
        solutions.append(_fit(x, y, weights))
    return np.array(solutions).reshape(-1, 3)

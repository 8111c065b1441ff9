"""The difference between two arms of independent runs, with an interval that knows few runs.

The unit is a run: steps of one run follow each other and are no replicates (models.md section 7).
Several runs on both sides: Welch's t or the pooled t, whichever is wider, for Welch's claims too
much where one side has two runs (a test counts it). One run on one side: the spread of the other
stands for both (pooled t). One run on each side: only a spread known beforehand gives an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from perfkit.analyzers.refusal import Refusal

F64 = NDArray[np.float64]

ONE_RUN_EACH = Refusal(
    reason="one run each",
    remedy="repeat both sides (--base RUN... --new RUN...), or say how much the step time varies "
    "from run to run (--single-run-sd X%, or --calibration FILE of earlier repetitions)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of the new arm less the mean of the base arm, in the unit of the input."""

    point: float
    low: float  # two-sided limits
    high: float
    p_value: float  # two-sided, of "no difference"


def difference(
    base: Sequence[float],
    new: Sequence[float],
    *,
    known_sd: float | None = None,
    known_freedom: float = inf,
    confidence: float = 0.95,
) -> Difference | Refusal:
    """Compare two arms, one value a run.

    `known_sd` serves where each arm has one run only; known_freedom: the degrees of freedom with
    which it is known, infinite where it was simply given.
    """
    if not base or not new:
        raise ValueError("both arms need a run")
    first, second = np.asarray(base, np.float64), np.asarray(new, np.float64)
    point = float(second.mean() - first.mean())
    errors = _errors(first, second, known_sd, known_freedom)
    if not errors:
        return ONE_RUN_EACH
    t = {e: float(stats.t.ppf(0.5 + confidence / 2, e.freedom)) for e in errors}
    widest = max(errors, key=lambda e: t[e] * e.error)
    half, error, freedom = t[widest] * widest.error, widest.error, widest.freedom
    distance = abs(point) / error if error else (inf if point else 0.0)
    return Difference(
        point=point,
        low=point - half,
        high=point + half,
        p_value=float(2 * stats.t.sf(distance, freedom)),
    )


@dataclass(frozen=True, slots=True)
class _Error:
    """A standard error of the difference, with its degrees of freedom."""

    error: float
    freedom: float


def _errors(first: F64, second: F64, known_sd: float | None, known_freedom: float) -> list[_Error]:
    """Return the standard errors that the runs support; none for one run each."""
    spare = len(first) + len(second) - 2
    if not spare:
        return [] if known_sd is None else [_Error(hypot(known_sd, known_sd), known_freedom)]
    squares = sum(float(((arm - arm.mean()) ** 2).sum()) for arm in (first, second))
    pooled = _Error(sqrt(squares / spare * (1 / len(first) + 1 / len(second))), float(spare))
    if min(len(first), len(second)) < 2:
        return [pooled]
    parts = [float(arm.var(ddof=1)) / len(arm) for arm in (first, second)]
    weight = parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1)
    freedom = sum(parts) ** 2 / weight if weight > 0 else float(spare)
    return [pooled, _Error(sqrt(sum(parts)), freedom)]

"""An empirical model of how a cost grows: Extra-P's performance model normal form.

f(x) = c0 + c1 * x^i * log2(x)^j, one parameter. Hypotheses come from a fixed list of (i, j); the
one with the least leave-one-out SMAPE wins. Negative exponents are on by default here: without
them 2 (p-1)/p, the volume of every ring all-reduce, is mistaken for a logarithm (models.md 4.4).
Source: Calotoiu et al. 2013; extra-p/extrap at 291ac81 (default single-parameter modeller).
Black box: five points at least, and no statement beyond four times the largest x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import log2

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.refusal import Refusal

F64 = NDArray[np.float64]
LEAST_POINTS = 5
CLEARLY_BETTER = 1.3
FURTHEST = 4.0
"""Times the largest measured x up to which a prediction is given."""
_NEGLIGIBLE = 5e-4

_TERMS = (
    "0,1 0,2 1/4,0 1/3,0 1/4,1 1/3,1 1/4,2 1/3,2 1/2,0 1/2,1 1/2,2 2/3,0 3/4,0 2/3,1 3/4,1 4/5,0 "
    "2/3,2 3/4,2 1,0 1,1 1,2 5/4,0 5/4,1 4/3,0 4/3,1 3/2,0 3/2,1 3/2,2 5/3,0 7/4,0 2,0 2,1 2,2 "
    "9/4,0 7/3,0 5/2,0 5/2,1 5/2,2 8/3,0 11/4,0 3,0 3,1"
)
POSITIVE_TERMS = tuple(
    (Fraction(i), int(j)) for i, j in (term.split(",") for term in _TERMS.split())
)
NEGATIVE_TERMS = tuple(
    (Fraction(-i), j)
    for i, j in ((Fraction(1, 2), 0), (Fraction(1), 0), (Fraction(2), 0), (Fraction(1), 1))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthModel:
    """f(x) = constant + coefficient * x^exponent * log2(x)^log_exponent."""

    constant: float
    coefficient: float
    exponent: Fraction
    log_exponent: int
    smape_percent: float  # leave-one-out
    largest_x: float

    def value(self, x: float) -> float | Refusal:
        """Return f(x), or refuse beyond FURTHEST times the largest measured x."""
        if x > FURTHEST * self.largest_x:
            return Refusal(
                reason=f"{x:g} lies beyond {FURTHEST:g} times the largest measurement",
                remedy="use the physics model, or measure more ranks",
            )
        return self.constant + self.coefficient * _basis(x, self.exponent, self.log_exponent)

    @property
    def formula(self) -> str:
        """The model as people write it."""
        power = f" x^{self.exponent}" if self.exponent else ""
        logarithm = {0: "", 1: " log2(x)"}.get(self.log_exponent, f" log2(x)^{self.log_exponent}")
        if not self.coefficient:
            return f"{self.constant:.4g}"
        return f"{self.constant:.4g} + {self.coefficient:.4g}{power}{logarithm}"


def smape_percent(predicted: F64, actual: F64) -> float:
    """Return the symmetric mean absolute percentage error, 0 to 200."""
    scale = np.abs(predicted) + np.abs(actual)
    terms = np.divide(2 * np.abs(predicted - actual), scale, out=np.zeros_like(scale),
                      where=scale > 0)  # fmt: skip
    return float(100 * terms.mean())


def fit_growth(
    x: Sequence[float],
    y: Sequence[float],
    *,
    negative_exponents: bool = True,
    refine: bool = False,
    least_points: int = LEAST_POINTS,
) -> GrowthModel | Refusal:
    """Model y over x (x >= 1, one y each: the mean of its repetitions).

    `refine` keeps the constant model unless the winner's cross-validated error is at least 1.3
    times smaller, as Extra-P's refining modeller does. `least_points` is lowered by
    cross-validation only.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(np.unique(xs)) < least_points:
        return Refusal(
            reason=f"{len(np.unique(xs))} points are too few for an empirical growth model",
            remedy=f"measure {LEAST_POINTS} values",
        )
    if xs.min() < 1:
        raise ValueError("the parameter must be at least 1")
    constant = _constant_model(xs, ys)
    best = constant
    for exponent, log_exponent in POSITIVE_TERMS + (NEGATIVE_TERMS if negative_exponents else ()):
        candidate = _hypothesis(xs, ys, exponent, log_exponent)
        if candidate is not None and candidate.smape_percent < best.smape_percent:
            best = candidate
    if refine and best.smape_percent * CLEARLY_BETTER > constant.smape_percent:
        return constant
    return best


def _basis(x: float, exponent: Fraction, log_exponent: int) -> float:
    return float(x ** float(exponent) * log2(x) ** log_exponent)


def _constant_model(xs: F64, ys: F64) -> GrowthModel:
    others = (ys.sum() - ys) / (len(ys) - 1)
    return GrowthModel(
        constant=float(ys.mean()),
        coefficient=0.0,
        exponent=Fraction(0),
        log_exponent=0,
        smape_percent=smape_percent(others, ys),
        largest_x=float(xs.max()),
    )


def _line(term: F64, ys: F64) -> tuple[float, float]:
    design = np.column_stack([np.ones_like(term), term])
    (c0, c1), *_ = np.linalg.lstsq(design, ys, rcond=None)
    if abs(c0) < _NEGLIGIBLE * abs(ys).min():
        c0, c1 = 0.0, float(term @ ys / (term @ term))
    return float(c0), float(c1)


def _hypothesis(xs: F64, ys: F64, exponent: Fraction, log_exponent: int) -> GrowthModel | None:
    term = np.array([_basis(x, exponent, log_exponent) for x in xs])
    if np.ptp(term) == 0:
        return None
    left_out = np.empty_like(ys)
    for k in range(len(ys)):
        keep = np.arange(len(ys)) != k
        c0, c1 = _line(term[keep], ys[keep])
        left_out[k] = c0 + c1 * term[k]
    c0, c1 = _line(term, ys)
    share = np.abs(c1 * term) / np.maximum(np.abs(ys), 1e-300)
    if share.max() < _NEGLIGIBLE:
        return None
    return GrowthModel(
        constant=c0,
        coefficient=c1,
        exponent=exponent,
        log_exponent=log_exponent,
        smape_percent=smape_percent(left_out, ys),
        largest_x=float(xs.max()),
    )

"""How step time grows with the number of ranks, by physics: few unknowns, the rest measured.

T(p) = serial + C/p (strong) or C (weak) + exposed ring all-reduce(p) + sigma sqrt(2 ln p)
(models.md 4.3). Latency, bandwidth and skew come from traces (`alphabeta`, per-step times); only
the serial part and C are fitted to the curve, so three points suffice. The last term is the
expected maximum of p independent normal step times. Valid while the communication pattern and the
placement stay; oversubscribed points (more ranks than cores) must not be put in. `choose_model`
compares it with the empirical models by leave-one-out error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Protocol

import numpy as np
from scipy.optimize import nnls

from perfkit.analyzers import extrap, usl
from perfkit.analyzers.extrap import smape_percent
from perfkit.analyzers.refusal import Refusal
from perfkit.roofline.collective_cost import Link, ring_s

LEAST_POINTS = 3
CLEARLY_BETTER = 1.3
"""Factor by which a less simple model must lower the cross-validated error to be preferred."""
FURTHEST = 4.0
"""Times the largest measured p up to which any black-box model may speak."""
PHYSICS_FURTHEST = 64.0
"""The same for the physics model: beyond it, topology and algorithm have surely changed."""


class Exposure(Protocol):
    """What communication and skew add to a step, known from elsewhere and therefore not fitted."""

    def exposed_s(self, ranks: int) -> float:
        """Return the seconds that they add on `ranks` ranks; 0 on one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the traces say of communication and skew, which is therefore not fitted.

    `exposed_share` is the part of the transfer time that compute does not hide.
    """

    link: Link
    message_bytes: tuple[int, ...]  # of each all-reduce of a step
    exposed_share: float = 1.0
    skew_sd_s: float = 0.0

    def exposed_s(self, ranks: int) -> float:
        """Return the exposed communication and skew of a step on `ranks` ranks."""
        if ranks < 2:
            return 0.0
        transfer = sum(ring_s("all_reduce", s, ranks, self.link) for s in self.message_bytes)
        return self.exposed_share * transfer + expected_skew_s(self.skew_sd_s, ranks)


def expected_skew_s(step_sd_s: float, ranks: int) -> float:
    """Return about the expected maximum of `ranks` normal times over their mean: s sqrt(2 ln p)."""
    return step_sd_s * sqrt(2 * log(ranks)) if ranks > 1 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicsModel:
    """The fitted model. `compute_s` is C: the one-rank compute (strong), or a rank's own (weak)."""

    serial_s: float
    compute_s: float
    network: Exposure
    weak: bool
    worst_relative_residual: float
    largest_ranks: int

    def step_s(self, ranks: int) -> float | Refusal:
        """Return T(p), or refuse beyond PHYSICS_FURTHEST times the largest measured p."""
        if ranks > PHYSICS_FURTHEST * self.largest_ranks:
            return Refusal(
                reason=f"{ranks} ranks are more than {PHYSICS_FURTHEST:g} times the measured "
                f"{self.largest_ranks}",
                remedy="measure more ranks",
            )
        compute = self.compute_s if self.weak else self.compute_s / ranks
        return self.serial_s + compute + self.network.exposed_s(ranks)


def fit_physics(
    seconds: Mapping[int, float], network: Exposure, *, weak: bool, least_points: int = LEAST_POINTS
) -> PhysicsModel | Refusal:
    """Fit serial time and C to step times at three or more numbers of ranks.

    Under weak scaling both are constants of p, so they cannot be told apart: their sum is put in
    C and `serial_s` is zero. Relative errors count. `least_points` is lowered by cross-validation.
    """
    if len(seconds) < least_points:
        return Refusal(
            reason=f"{len(seconds)} points are too few for a fit",
            remedy=f"measure {least_points} numbers of ranks",
        )
    if min(seconds.values()) <= 0 or min(seconds) < 1:
        raise ValueError("times and rank counts must be positive")
    ranks = np.array(sorted(seconds), np.float64)
    times = np.array([seconds[int(p)] for p in ranks])
    rest = times - np.array([network.exposed_s(int(p)) for p in ranks])
    design = np.ones((len(ranks), 1)) if weak else np.column_stack([np.ones(len(ranks)), 1 / ranks])
    found, _ = nnls(design / times[:, None], rest / times)
    serial, compute = (0.0, found[0]) if weak else found
    residual = np.abs(design @ found - rest) / times
    return PhysicsModel(
        serial_s=float(serial),
        compute_s=float(compute),
        network=network,
        weak=weak,
        worst_relative_residual=float(residual.max()),
        largest_ranks=int(ranks[-1]),
    )


Predictor = Callable[[int], float | Refusal]


class Fit(Protocol):
    """Fits step seconds by number of ranks; `left_out` points are missing on purpose."""

    def __call__(self, seconds: Mapping[int, float], *, left_out: int) -> Predictor | Refusal:
        """Return a predictor of step seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model's standing: its leave-one-out SMAPE in percent, or why it has none."""

    name: str
    smape_percent: float | None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The preferred model and all that were tried, simplest first."""

    name: str
    predict: Predictor
    candidates: tuple[Candidate, ...]


def choose_model(
    seconds: Mapping[int, float], network: Exposure | None, *, weak: bool
) -> Chosen | Refusal:
    """Choose between physics, USL and empirical growth by leave-one-out error on step seconds.

    Simplest first: physics (two unknowns), USL (three), growth (a searched form). A later one
    wins only if its error is at least 1.3 times smaller. The black boxes need six and five points
    and speak up to four times the largest number of ranks.
    """
    tried: list[Candidate] = []
    best: tuple[float, str, Predictor] | None = None
    for name, fit in _models(network, weak=weak).items():
        predict = fit(seconds, left_out=0)
        error = predict if isinstance(predict, Refusal) else _left_out_error(seconds, fit)
        if isinstance(predict, Refusal) or isinstance(error, Refusal):
            why = predict if isinstance(predict, Refusal) else error
            assert isinstance(why, Refusal)
            tried.append(Candidate(name=name, smape_percent=None, refusal=why))
            continue
        tried.append(Candidate(name=name, smape_percent=error))
        if best is None or error * CLEARLY_BETTER < best[0]:
            best = (error, name, predict)
    if best is None:
        reasons = "; ".join(f"{c.name}: {c.refusal.reason}" for c in tried if c.refusal)
        return Refusal(reason=f"no model can be fitted ({reasons})", remedy="measure more points")
    return Chosen(name=best[1], predict=best[2], candidates=tuple(tried))


def refit(
    name: str, seconds: Mapping[int, float], network: Exposure | None, *, weak: bool
) -> Predictor | Refusal:
    """Fit the model of that name, one of those `choose_model` chooses from, to other times."""
    return _models(network, weak=weak)[name](seconds, left_out=0)


def _models(network: Exposure | None, *, weak: bool) -> dict[str, Fit]:
    black_boxes: dict[str, Fit] = {"usl": _Usl(weak=weak), "growth": _Growth()}
    if network is None:
        return black_boxes
    return {"physics": _Physics(network=network, weak=weak), **black_boxes}


def _left_out_error(seconds: Mapping[int, float], fit: Fit) -> float | Refusal:
    guesses: list[float] = []
    for missing in seconds:
        predict = fit({p: t for p, t in seconds.items() if p != missing}, left_out=1)
        guess = predict if isinstance(predict, Refusal) else predict(missing)
        if isinstance(guess, Refusal):
            return guess
        guesses.append(guess)
    return smape_percent(np.array(guesses), np.array(list(seconds.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Physics:
    network: Exposure
    weak: bool

    def __call__(self, seconds: Mapping[int, float], *, left_out: int) -> Predictor | Refusal:
        least = LEAST_POINTS - left_out
        model = fit_physics(seconds, self.network, weak=self.weak, least_points=least)
        return model if isinstance(model, Refusal) else model.step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usl:
    weak: bool

    def __call__(self, seconds: Mapping[int, float], *, left_out: int) -> Predictor | Refusal:
        ranks = sorted(seconds)
        work = {p: float(p) if self.weak else 1.0 for p in ranks}
        rates = [work[p] / seconds[p] for p in ranks]
        least = usl.LEAST_POINTS - left_out
        fit = usl.fit_usl(ranks, rates, seed=0, draws=0, relative=True, least_points=least)
        if isinstance(fit, Refusal):
            return fit
        furthest = FURTHEST * ranks[-1]

        def predict(p: int) -> float | Refusal:
            if p > furthest:
                return Refusal(reason=f"{p} ranks lie beyond four times the measured {ranks[-1]}")
            return (float(p) if self.weak else 1.0) / fit.throughput(p)

        return predict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    def __call__(self, seconds: Mapping[int, float], *, left_out: int) -> Predictor | Refusal:
        ranks = sorted(seconds)
        times = [seconds[p] for p in ranks]
        least = extrap.LEAST_POINTS - left_out
        model = extrap.fit_growth(ranks, times, refine=True, least_points=least)
        return model if isinstance(model, Refusal) else model.value

"""Which model describes a series, and what it says of numbers of ranks that were not measured.

The interval has two parts, joined in quadrature: refits to the resampled runs (95 %), and the
model's own leave-one-out error (at least 1 %), counted once more for every doubling beyond the
largest measured number of ranks. The second part is a rule, not a confidence level: nothing
measured says how wrong a model becomes out there, only that it does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, log2

import numpy as np

from perfkit.analyzers import extrap, scaling_model, usl
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.scaling_laws import serial_share_fit
from perfkit.analyzers.scaling_model import Chosen, Predictor
from perfkit.analyzers.scaling_network import Communication
from perfkit.analyzers.scaling_points import F64
from perfkit.analyzers.scaling_result import Fits, LinkUsed, ModelStanding, Prediction, Usl

LEAST_POINTS = 3
LEAST_ERROR = 0.01
REFITS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What models are fitted to: steps in seconds by ranks, redraws of them, and communication."""

    seconds: Mapping[int, float]
    drawn_s: Mapping[int, F64]  # shape (draws,) each
    communication: Communication | Refusal
    link: LinkUsed | None
    weak: bool

    @property
    def exposure(self) -> Communication | None:
        """The communication where it is known."""
        return None if isinstance(self.communication, Refusal) else self.communication


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The fits as they are shown, and the model that predicts; `chosen` may be a refusal."""

    fits: Fits
    chosen: Chosen | Refusal


def fit_models(basis: Basis, *, seed: int) -> Fitted | Refusal:
    """Fit every law and model that the points suffice for."""
    if len(basis.seconds) < LEAST_POINTS:
        count = len(basis.seconds)
        return Refusal(
            reason=f"{count} point{'s' * (count != 1)} that can be used: a fit needs three",
            remedy="measure more numbers of ranks, none of them with more ranks than cores",
        )
    chosen = scaling_model.choose_model(basis.seconds, basis.exposure, weak=basis.weak)
    serial = None if basis.weak else serial_share_fit(basis.seconds)
    physics = _physics(basis)
    scalability = _usl(basis, seed)
    growth = extrap.fit_growth(
        list(basis.seconds), [s * 1e3 for s in basis.seconds.values()], refine=True
    )
    known = physics is not None
    fits = Fits(
        points=tuple(sorted(basis.seconds)),
        amdahl_serial_share=None if isinstance(serial, Refusal) else serial,
        physics_serial_ms=physics.serial_s * 1e3 if physics and not basis.weak else None,
        physics_compute_ms=physics.compute_s * 1e3 if physics else None,
        skew_sd_ms=basis.exposure.skew_sd_s * 1e3 if basis.exposure and known else None,
        link=basis.link,
        usl=None if isinstance(scalability, Refusal) else scalability,
        usl_refused=str(scalability) if isinstance(scalability, Refusal) else "",
        growth="" if isinstance(growth, Refusal) else growth.formula,
        growth_refused=str(growth) if isinstance(growth, Refusal) else "",
        models=_standings(basis, chosen),
        chosen="" if isinstance(chosen, Refusal) else chosen.name,
    )
    return Fitted(fits=fits, chosen=chosen)


def _physics(basis: Basis) -> scaling_model.PhysicsModel | None:
    if basis.exposure is None:
        return None
    model = scaling_model.fit_physics(basis.seconds, basis.exposure, weak=basis.weak)
    return None if isinstance(model, Refusal) else model


def _usl(basis: Basis, seed: int) -> Usl | Refusal:
    ranks = sorted(basis.seconds)
    rates = [(p if basis.weak else 1.0) / basis.seconds[p] for p in ranks]
    fit = usl.fit_usl(ranks, rates, seed=seed, relative=True)
    if isinstance(fit, Refusal):
        return fit
    return Usl(
        contention=fit.alpha,
        contention_interval=fit.alpha_interval,
        coherency=fit.beta,
        coherency_interval=fit.beta_interval,
        peak_ranks=fit.peak_ranks if fit.beta > 0 else None,
    )


def _standings(basis: Basis, chosen: Chosen | Refusal) -> tuple[ModelStanding, ...]:
    found = []
    if isinstance(basis.communication, Refusal):
        refused = str(basis.communication)
        found.append(ModelStanding(name="physics", error_percent=None, refused=refused))
    for candidate in () if isinstance(chosen, Refusal) else chosen.candidates:
        refused = "" if candidate.refusal is None else str(candidate.refusal)
        found.append(
            ModelStanding(
                name=candidate.name, error_percent=candidate.smape_percent, refused=refused
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What efficiency and throughput of a prediction are held against."""

    base_ranks: int
    base_s: float
    base_samples: float  # of a step
    weak: bool

    def efficiency(self, ranks: int, step_s: float) -> float:
        """Return the efficiency of a step on `ranks` ranks against the base."""
        return self.base_s / step_s / (1.0 if self.weak else ranks / self.base_ranks)

    def samples_per_s(self, ranks: int, step_s: float) -> float:
        """Return the throughput of the job on `ranks` ranks."""
        growth = ranks / self.base_ranks if self.weak else 1.0
        return self.base_samples * growth / step_s


def predict(
    basis: Basis, fitted: Fitted, ranks: Sequence[int], work: Work, *, over: Communication | None
) -> tuple[Prediction, ...]:
    """Predict steps on other numbers of ranks; `over`: with the communication of another network.

    Another network needs the physics model, because a curve holds nothing of a network.
    """
    chosen = fitted.chosen
    if isinstance(chosen, Refusal):
        return tuple(_refused(p, chosen) for p in ranks)
    name = chosen.name if over is None else "physics"
    error = next((c.smape_percent for c in chosen.candidates if c.name == name), None)
    refits = _refits(name, basis, over)
    point = _predictor(name, basis, basis.seconds, over)
    if error is None or isinstance(point, Refusal):
        why = point if isinstance(point, Refusal) else Refusal(reason="the model has no error")
        return tuple(_refused(p, why) for p in ranks)
    model = _Model(
        point=point,
        refits=tuple(refits),
        error=max(error / 100, LEAST_ERROR),
        largest=max(basis.seconds),
    )
    return tuple(_predicted(p, model, work) for p in ranks)


def _predictor(
    name: str, basis: Basis, seconds: Mapping[int, float], over: Communication | None
) -> Predictor | Refusal:
    """Fit to the measured network, and predict over the other one if there is one."""
    exposure = basis.exposure
    if over is None or exposure is None:
        return scaling_model.refit(name, seconds, exposure, weak=basis.weak)
    model = scaling_model.refit("physics", seconds, exposure, weak=basis.weak)
    if isinstance(model, Refusal):
        return model

    def moved(ranks: int) -> float | Refusal:
        there = model(ranks)
        if isinstance(there, Refusal):
            return there
        return there - exposure.exposed_s(ranks) + over.exposed_s(ranks)

    return moved


def _refits(name: str, basis: Basis, over: Communication | None) -> list[Predictor]:
    draws = min((len(own) for own in basis.drawn_s.values()), default=0)
    found = []
    for draw in range(min(draws, REFITS)):
        seconds = {p: float(own[draw]) for p, own in basis.drawn_s.items()}
        model = _predictor(name, basis, seconds, over)
        if not isinstance(model, Refusal):
            found.append(model)
    return found


def _refused(ranks: int, why: Refusal) -> Prediction:
    return Prediction(
        ranks=ranks,
        step_ms=None,
        low_ms=None,
        high_ms=None,
        samples_per_s=None,
        efficiency=None,
        refused=str(why),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A fitted model, its refits to resampled runs, and its leave-one-out error (relative)."""

    point: Predictor
    refits: tuple[Predictor, ...]
    error: float
    largest: int  # number of ranks that it was fitted to


def _predicted(ranks: int, model: _Model, work: Work) -> Prediction:
    step = model.point(ranks)
    if isinstance(step, Refusal):
        return _refused(ranks, step)
    if step <= 0:
        return _refused(ranks, Refusal(reason="the model gives no positive time there"))
    others = [t for refit in model.refits if not isinstance(t := refit(ranks), Refusal)]
    low, high = np.quantile([*others, step], (0.025, 0.975)).tolist()
    own = model.error * (1.0 + max(log2(ranks / model.largest), 0.0))
    down, up = hypot(1 - low / step, own), hypot(high / step - 1, own)
    return Prediction(
        ranks=ranks,
        step_ms=step * 1e3,
        low_ms=step * max(1 - down, 0.0) * 1e3,
        high_ms=step * (1 + up) * 1e3,
        samples_per_s=work.samples_per_s(ranks, step),
        efficiency=work.efficiency(ranks, step),
    )

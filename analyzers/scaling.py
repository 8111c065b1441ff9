"""How a training scales over ranks, why it loses efficiency, and what more ranks would bring.

Pure: from measured runs to a frozen result. Definitions, sources and limits: models.md sections 4
and 1.1 and docs/scaling.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.scaling_network import (
    Communication,
    communication_of,
    fit_link,
    given_link,
)
from perfkit.analyzers.scaling_points import by_ranks, points_of, resampled_ms
from perfkit.analyzers.scaling_prediction import Basis, Fitted, Work, fit_models, predict
from perfkit.analyzers.scaling_result import (
    SCHEMA_VERSION,
    Cost,
    LinkUsed,
    Prediction,
    Scaling,
    ScalingPoint,
)
from perfkit.analyzers.scaling_runs import MeasuredRun, mode_of
from perfkit.analyzers.scaling_words import sentences, warnings
from perfkit.analyzers.traffic import Traffic
from perfkit.analyzers.verdict import seed_of
from perfkit.roofline.collective_cost import Link
from perfkit.version import __version__

DEFAULT_SAMPLES = 1_000_000
DOUBLINGS = 3
"""How far predictions go when nobody says how far: eight times the largest that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a series beyond what was measured."""

    asked_mode: str = ""  # strong or weak; "" takes what the runs are
    predict: tuple[int, ...] = ()  # rank counts; () doubles the largest
    use_oversubscribed: bool = False
    bandwidth_byte_per_s: float | None = None  # of another network
    alpha_s: float = 0.0
    price_per_gpu_hour: float | None = None
    samples: float | None = None  # how much work costs are for
    tokens: float | None = None


def scale(
    runs: Sequence[MeasuredRun],
    question: Question,
    traffic: Mapping[str, Traffic],
) -> Scaling | Refusal:
    """Judge a series of runs, or say why they are none.

    traffic: what the ranks sent, by the name of the run it was traced in.
    """
    mode = mode_of(runs)
    if isinstance(mode, Refusal):
        return mode
    weak = mode == "weak"
    grouped = by_ranks(runs)
    allowed = frozenset(fit_ranks(runs, use_oversubscribed=question.use_oversubscribed))
    seed = seed_of("".join(sorted(run.name for run in runs)))
    points = points_of(grouped, weak=weak, fitted=allowed, seed=seed)
    usable = {p: own for p, own in grouped.items() if p in allowed}
    basis = _basis(usable, traffic, weak=weak, seed=seed)
    fitted = fit_models(basis, seed=seed)
    over, used = _other_network(basis, question)
    predictions = _predictions(basis, fitted, points, question, over)
    costs = _costs(points, predictions, question)
    return Scaling(
        schema_version=SCHEMA_VERSION,
        perfkit_version=__version__,
        mode=mode,
        command=runs[0].command,
        model=runs[0].model,
        dtypes=runs[0].dtypes,
        base_ranks=points[0].ranks,
        points=points,
        fits=None if isinstance(fitted, Refusal) else fitted.fits,
        fit_refused=str(fitted) if isinstance(fitted, Refusal) else "",
        predictions=predictions,
        predicted_link=used or basis.link,
        knee_ranks=_knee(points, predictions),
        work=_work_words(question),
        costs=costs,
        cheapest_ranks=min(costs, key=lambda c: c.gpu_hours).ranks if costs else None,
        fastest_ranks=min(costs, key=lambda c: c.hours).ranks if costs else None,
        warnings=warnings(
            points, runs, question.asked_mode, mode, allowed=question.use_oversubscribed
        ),
        sentences=sentences(points, mode),
    )


def fit_ranks(runs: Sequence[MeasuredRun], *, use_oversubscribed: bool) -> list[int]:
    """Return the numbers of ranks that models may use: those with a core for every rank."""
    crowded = {run.ranks for run in runs if run.oversubscribed}
    return sorted(r for r in {run.ranks for run in runs} if use_oversubscribed or r not in crowded)


def _basis(
    usable: Mapping[int, Sequence[MeasuredRun]],
    traffic: Mapping[str, Traffic],
    *,
    weak: bool,
    seed: int,
) -> Basis:
    runs = [run for own in usable.values() for run in own]
    link = fit_link(runs, traffic, seed=seed)
    communication: Communication | Refusal
    if isinstance(link, Refusal):
        communication = link
    else:
        communication = _communication(usable, traffic, link[0], weak=weak)
    several = any(len(own) > 1 for own in usable.values())
    drawn = resampled_ms(usable, seed=seed) if several else {}
    return Basis(
        seconds={p: median(r.step_ms for r in own) / 1e3 for p, own in usable.items()},
        drawn_s={p: own / 1e3 for p, own in drawn.items()},
        communication=communication,
        link=None if isinstance(link, Refusal) else link[1],
        weak=weak,
    )


def _communication(
    usable: Mapping[int, Sequence[MeasuredRun]],
    traffic: Mapping[str, Traffic],
    link: Link,
    *,
    weak: bool,
) -> Communication | Refusal:
    for ranks in sorted(usable, reverse=True):
        for run in usable[ranks]:
            if run.ranks > 1 and run.name in traffic:
                return communication_of(run, traffic[run.name], link, weak=weak)
    return Refusal(reason="no run of several ranks has a trace", remedy="profile with --window A:B")


def _other_network(
    basis: Basis, question: Question
) -> tuple[Communication | None, LinkUsed | None]:
    if question.bandwidth_byte_per_s is None or basis.exposure is None:
        return None, None
    link, used = given_link(question.bandwidth_byte_per_s, question.alpha_s)
    return basis.exposure.over(link), used


def _predictions(
    basis: Basis,
    fitted: Fitted | Refusal,
    points: Sequence[ScalingPoint],
    question: Question,
    over: Communication | None,
) -> tuple[Prediction, ...]:
    if isinstance(fitted, Refusal):
        return ()
    measured = sorted(basis.seconds)
    largest = measured[-1]
    asked = question.predict or tuple(largest * 2**k for k in range(1, DOUBLINGS + 1))
    if over is not None:  # the measured counts too: it is another cluster
        asked = tuple(sorted({*measured, *asked}))
    base = points[0]
    work = Work(
        base_ranks=base.ranks,
        base_s=base.step_ms / 1e3,
        base_samples=base.samples_per_step,
        weak=basis.weak,
    )
    return predict(basis, fitted, asked, work, over=over)


def _knee(points: Sequence[ScalingPoint], predictions: Sequence[Prediction]) -> int | None:
    """Return the ranks at which speed-up times efficiency is largest (Eager et al. 1989).

    Of the measured points that may be fitted, and what is predicted for the same network. None
    where it is the last of them: then the knee lies further out, or nowhere.
    """
    base = points[0].ranks
    known = {p.ranks: p.efficiency for p in points if p.in_fit}
    known |= {p.ranks: p.efficiency for p in predictions if p.efficiency is not None}
    if len(known) < 3:
        return None
    power = {ranks: own**2 * ranks / base for ranks, own in known.items()}
    best = max(power, key=lambda ranks: power[ranks])
    return None if best == max(power) else best


def _work_words(question: Question) -> str:
    if question.tokens is not None:
        return f"{question.tokens:,.0f} tokens"
    return f"{question.samples or DEFAULT_SAMPLES:,.0f} samples"


def _costs(
    points: Sequence[ScalingPoint], predictions: Sequence[Prediction], question: Question
) -> tuple[Cost, ...]:
    """Return time and cost of the asked work, oversubscribed points left out unless allowed."""
    rates: dict[int, tuple[float, bool]] = {}
    each = 1.0  # of the counted unit in a sample
    if question.tokens is not None:
        first = points[0]
        if first.tokens_per_s is None:
            return ()
        each = first.tokens_per_s / first.samples_per_s
    for point in points:
        if point.in_fit:
            rates[point.ranks] = point.samples_per_s * each, False
    for guess in predictions:
        if guess.samples_per_s is not None:
            rates.setdefault(guess.ranks, (guess.samples_per_s * each, True))
    amount = question.tokens or question.samples or DEFAULT_SAMPLES
    price = question.price_per_gpu_hour
    found = []
    for ranks, (rate, predicted) in sorted(rates.items()):
        hours = amount / rate / 3600
        cost = None if price is None else hours * ranks * price
        found.append(
            Cost(
                ranks=ranks,
                predicted=predicted,
                hours=hours,
                gpu_hours=hours * ranks,
                price=cost,
            )
        )
    return tuple(found)

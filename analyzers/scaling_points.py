"""The points of a series: medians over runs, speed-up and efficiency, with intervals over runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.scaling_laws import gustafson_serial_share, karp_flatt
from perfkit.analyzers.scaling_losses import (
    losses,
    main_loss,
    mean_causes_ms,
    slower_kernels_ms,
)
from perfkit.analyzers.scaling_result import ScalingPoint, Span
from perfkit.analyzers.scaling_runs import MeasuredRun

F64 = NDArray[np.float64]
DRAWS = 2000
CONFIDENCE = 0.95

Runs = Mapping[int, Sequence[MeasuredRun]]
"""The runs of each number of ranks."""


def by_ranks(runs: Sequence[MeasuredRun]) -> dict[int, list[MeasuredRun]]:
    """Group the runs of a series, smallest number of ranks first."""
    return {p: [r for r in runs if r.ranks == p] for p in sorted({r.ranks for r in runs})}


def resampled_ms(runs: Runs, *, seed: int, draws: int = DRAWS) -> dict[int, F64]:
    """Return draws of each point's median step, its runs drawn with replacement: shape (draws,).

    A point of one run gives the same value every time: it says nothing of its own spread.
    """
    generator = np.random.default_rng(seed)
    drawn = {}
    for ranks, own in runs.items():
        steps = np.array([run.step_ms for run in own])
        picks = generator.integers(0, len(steps), size=(draws, len(steps)))
        drawn[ranks] = np.median(steps[picks], axis=1)
    return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """What every point is held against."""

    base: int
    weak: bool
    steps_ms: Mapping[int, float]
    drawn_ms: Mapping[int, F64]
    causes_ms: Mapping[int, Mapping[str, float]]
    runs: Runs
    fitted: frozenset[int]


def points_of(
    runs: Runs, *, weak: bool, fitted: frozenset[int], seed: int
) -> tuple[ScalingPoint, ...]:
    """Return the points of a series of one mode; `fitted` are the rank counts that models use."""
    steps = {ranks: median(run.step_ms for run in own) for ranks, own in runs.items()}
    series = _Series(
        base=min(runs),
        weak=weak,
        steps_ms=steps,
        drawn_ms=resampled_ms(runs, seed=seed),
        causes_ms={ranks: mean_causes_ms(own, steps[ranks]) for ranks, own in runs.items()},
        runs=runs,
        fitted=fitted,
    )
    return tuple(_point(series, ranks) for ranks in runs)


def _point(series: _Series, ranks: int) -> ScalingPoint:
    own, base, step = series.runs[ranks], series.base, series.steps_ms[ranks]
    growth = ranks / base
    scaled = growth if series.weak else 1.0
    gain = series.steps_ms[base] / step * scaled
    gains = series.drawn_ms[base] / series.drawn_ms[ranks] * scaled
    repeated = len(own) > 1
    compared = repeated and len(series.runs[base]) > 1 and ranks != base
    causes = series.causes_ms
    lost = losses(
        causes[base],
        causes[ranks],
        growth=growth,
        weak=series.weak,
        slower_ms=slower_kernels_ms(series.runs[base], own) if ranks != base else 0.0,
    )
    samples = median(run.samples_per_step for run in own)
    tokens = own[0].tokens_per_step
    alone = base == 1 < ranks  # the laws speak of one rank against several
    return ScalingPoint(
        ranks=ranks,
        nodes=max(run.nodes for run in own),
        runs=tuple(run.name for run in own),
        step_ms=step,
        step_interval_ms=_span(series.drawn_ms[ranks]) if repeated else None,
        ideal_ms=series.steps_ms[base] / (1.0 if series.weak else growth),
        samples_per_step=samples,
        samples_per_s=samples / step * 1e3,
        samples_per_s_interval=_span(samples / series.drawn_ms[ranks] * 1e3) if repeated else None,
        tokens_per_s=None if tokens is None else tokens / step * 1e3,
        speed_up=gain,
        speed_up_interval=_span(gains) if compared else None,
        efficiency=gain / growth,
        efficiency_interval=_span(gains / growth) if compared else None,
        karp_flatt=karp_flatt(gain, ranks) if alone and not series.weak else None,
        gustafson_serial_share=gustafson_serial_share(gain, ranks)
        if alone and series.weak
        else None,
        oversubscribed=any(run.oversubscribed for run in own),
        in_fit=ranks in series.fitted,
        cores=own[0].cores,
        classes_ms=_classes(own, step),
        factors=_factors(own),
        losses=lost,
        main_loss=main_loss(lost) if ranks != base else None,
        contention=_contention(own),
    )


def _contention(runs: Sequence[MeasuredRun]) -> float | None:
    """Return the median factor over the runs that tell it."""
    known = [run.contention.factor for run in runs if run.contention is not None]
    return median(known) if known else None


def _span(values: F64) -> Span:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def _classes(runs: Sequence[MeasuredRun], step_ms: float) -> dict[str, float | None]:
    """Return the mean budget of the runs, on the unprofiled step; None stays None."""
    found: dict[str, float | None] = {}
    for key in runs[0].classes_ms:
        shares = []
        for run in runs:
            total = sum(ms for ms in run.classes_ms.values() if ms is not None)
            own = run.classes_ms.get(key)
            shares.append(own / total if own is not None and total > 0 else None)
        known = [share for share in shares if share is not None]
        found[key] = sum(known) / len(known) * step_ms if known else None
    return found


def _factors(runs: Sequence[MeasuredRun]) -> dict[str, float | None]:
    """Return the mean of each factor of the efficiency tree over the runs that tell it."""
    names = dict.fromkeys(name for run in runs for name in run.factors)
    found: dict[str, float | None] = {}
    for name in names:
        known = [value for run in runs if (value := run.factors.get(name)) is not None]
        found[name] = sum(known) / len(known) if known else None
    return found

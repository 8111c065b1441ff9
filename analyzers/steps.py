"""The whole run from its step lines: pace, slow steps, rhythm, drift, and what the window saw."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.result import StepPoint, Steps, Throughput
from perfkit.analyzers.step_patterns import drift_percent, find_periods, find_slow_steps
from perfkit.analyzers.step_table import F64, SteadySteps, StepTable, steady_steps, tabulate_steps
from perfkit.trace.model import I64, StepLines

MOST_POINTS = 2000
REPRESENTATIVE_TOLERANCE = 0.05
"""Input or checkpoint time in the window may differ from the run by this share of a step."""
FASTER_THAN_RUN = 0.9
"""A profiler cannot make steps faster: a window below this share of the run's median is not it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRun:
    """What the step lines say, for the report and for the analyzers after it."""

    steps: Steps
    throughput: Throughput
    settled: bool
    dilation: float | None  # profiled median over unprofiled median, less 1
    not_representative: tuple[str, ...]  # which of median, input, checkpoint differ

    @property
    def io_shares(self) -> tuple[float, float] | None:
        """The share of input wait and of checkpoints in the whole run, if known."""
        if self.steps.input_wait_share is None or self.steps.checkpoint_share is None:
            return None
        return self.steps.input_wait_share, self.steps.checkpoint_share


def view_run(
    lines: Mapping[int, StepLines], ranks: tuple[int, ...], analysed: I64, trace_ms: F64
) -> WholeRun:
    """Summarise the step lines of a run.

    `ranks` are all captured ranks, `analysed` the steps in the budget, and `trace_ms` their times
    by the traces (slowest rank), which stand in for the profiled median without step lines.
    """
    table = tabulate_steps(lines)
    steady = steady_steps(table)
    usual = table.slowest_ms[steady.mask]
    profiled = table.slowest_ms[np.isin(table.step, analysed)]
    profiled = profiled if len(profiled) else trace_ms
    median, profiled_median = _median(usual), _median(profiled)
    dilation = _dilation(median, profiled_median)
    steps = Steps(
        analysed=len(analysed),
        recorded=len(table.step),
        median_ms=median,
        p95_ms=_quantile(usual, 0.95),
        p99_ms=_quantile(usual, 0.99),
        profiled_median_ms=profiled_median,
        per_rank_median_ms=_per_rank_medians(table.ms, table, steady, ranks),
        per_rank_device_median_ms=_device_medians(table, steady, ranks),
        slow=find_slow_steps(table, steady),
        periodic=find_periods(table, steady),
        mean_ms=float(usual.mean()) if len(usual) else None,
        drift_percent=drift_percent(usual),
        input_wait_share=_share(table.input_ms, table, steady),
        checkpoint_share=_share(table.checkpoint_ms, table, steady),
        eval_steps=int(table.has_eval.sum()),
        eval_ms=_eval_cost(table, median),
        series=_series(table),
    )
    return WholeRun(
        steps=steps,
        throughput=_throughput(table, steady),
        settled=steady.found,
        dilation=dilation,
        not_representative=_differences(table, steady, analysed, median, dilation),
    )


def _dilation(median: float | None, profiled_median: float | None) -> float | None:
    return profiled_median / median - 1.0 if median and profiled_median else None


def _median(values: F64) -> float | None:
    return float(np.median(values)) if len(values) else None


def _quantile(values: F64, q: float) -> float | None:
    return float(np.quantile(values, q)) if len(values) else None


def _device_medians(
    table: StepTable, steady: SteadySteps, ranks: tuple[int, ...]
) -> tuple[float | None, ...]:
    if np.isnan(table.device_ms).all():
        return ()
    return _per_rank_medians(table.device_ms, table, steady, ranks)


def _per_rank_medians(
    ms: F64, table: StepTable, steady: SteadySteps, ranks: tuple[int, ...]
) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for rank in ranks:
        if rank not in table.ranks:
            found.append(None)
            continue
        own = ms[steady.mask, table.ranks.index(rank)]
        found.append(_median(own[~np.isnan(own)]))
    return tuple(found)


def _share(part: F64, table: StepTable, steady: SteadySteps) -> float | None:
    whole = float(np.nansum(table.ms[steady.mask]))
    return float(np.nansum(part[steady.mask])) / whole if whole > 0 else None


def _eval_cost(table: StepTable, median: float | None) -> float:
    if median is None or not table.has_eval.any():
        return 0.0
    return float(np.maximum(table.slowest_ms[table.has_eval] - median, 0.0).sum())


def _throughput(table: StepTable, steady: SteadySteps) -> Throughput:
    seconds = float(table.slowest_ms[steady.mask].sum()) / 1e3
    rates: list[float | None] = []
    for counts in (table.samples, table.tokens):
        own = counts[steady.mask]
        known = own.size > 0 and not np.isnan(own).any() and seconds > 0
        rates.append(float(own.sum()) / seconds if known else None)
    source = "step lines" if any(rate is not None for rate in rates) else ""
    return Throughput(samples_per_s=rates[0], tokens_per_s=rates[1], source=source)


def _differences(
    table: StepTable,
    steady: SteadySteps,
    analysed: I64,
    median: float | None,
    dilation: float | None,
) -> tuple[str, ...]:
    """Name what the analysed steps show differently from the steady rest, beyond noise."""
    window = np.isin(table.step, analysed)
    if median is None or not window.any() or steady.mask.sum() < 3:
        return ()
    found = []
    if dilation is not None and dilation < FASTER_THAN_RUN - 1.0:
        found.append("median")
    for name, part in (("input", table.input_ms), ("checkpoint", table.checkpoint_ms)):
        inside, outside = np.nanmean(part[window], axis=1), np.nanmean(part[steady.mask], axis=1)
        difference = abs(float(inside.mean()) - float(outside.mean()))
        error = np.sqrt(_error(inside) ** 2 + _error(outside) ** 2)
        if difference > REPRESENTATIVE_TOLERANCE * median and difference > 3 * error:
            found.append(name)
    return tuple(found)


def _error(values: F64) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _series(table: StepTable) -> tuple[StepPoint, ...]:
    """List every step, or of long runs the slowest of each stretch."""
    rows = np.arange(len(table.step))
    if len(rows) > MOST_POINTS:
        stretches = np.array_split(rows, MOST_POINTS)
        rows = np.array([s[int(np.argmax(table.slowest_ms[s]))] for s in stretches])
    worst = np.nanargmax(table.ms, axis=1) if len(table.step) else rows
    return tuple(
        StepPoint(
            step=int(table.step[row]),
            ms=float(table.slowest_ms[row]),
            rank=table.ranks[worst[row]],
            input_wait_ms=float(table.input_ms[row, worst[row]]),
            checkpoint_ms=float(table.checkpoint_ms[row, worst[row]]),
            profiled=bool(table.profiled[row]),
            has_eval=bool(table.has_eval[row]),
        )
        for row in rows.tolist()
    )

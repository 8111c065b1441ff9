"""The step lines of all ranks as one table: what each rank recorded of each step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.steady import WINDOW_STEPS, slow_head, steady_state
from perfkit.trace.model import I64, Bool, Spans, StepLines

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """Milliseconds of shape (steps, ranks), NaN where a rank has no line; flags of shape (steps,).

    A flag holds if it holds on any rank.
    """

    step: I64
    ranks: tuple[int, ...]
    ms: F64
    input_ms: F64
    checkpoint_ms: F64
    gc_ms: F64
    compile_ms: F64
    samples: F64
    tokens: F64
    has_eval: Bool
    profiled: Bool
    device_ms: F64  # between events on the device's own clock; NaN where not recorded

    @property
    def slowest_ms(self) -> F64:
        """The time of the slowest rank of each step."""
        return np.asarray(np.nanmax(self.ms, axis=1)) if len(self.step) else np.empty(0)

    @property
    def slowest_rank(self) -> I64:
        """The rank that took longest in each step."""
        if not len(self.step):
            return np.empty(0, dtype=np.int64)
        column = np.nanargmax(self.ms, axis=1)
        return np.asarray(np.asarray(self.ranks, dtype=np.int64)[column])


def tabulate_steps(lines: Mapping[int, StepLines]) -> StepTable:
    """Join the step lines of all ranks on the step's number."""
    ranks = tuple(sorted(rank for rank, own in lines.items() if len(own.index)))
    indices = [lines[rank].index.astype(np.int64) for rank in ranks]
    step = np.unique(np.concatenate(indices)) if indices else np.empty(0, dtype=np.int64)
    shape = (len(step), len(ranks))
    columns = {name: np.full(shape, np.nan) for name in _MS_COLUMNS}
    counts = {name: np.full(shape, np.nan) for name in ("samples", "tokens")}
    has_eval = np.zeros(len(step), dtype=np.bool_)
    profiled = np.zeros(len(step), dtype=np.bool_)
    for column, rank in enumerate(ranks):
        own = lines[rank]
        row = np.searchsorted(step, own.index)
        columns["ms"][row, column] = (own.end_ns - own.start_ns) / 1e6
        columns["input_ms"][row, column] = own.input_wait_ns / 1e6
        columns["checkpoint_ms"][row, column] = own.checkpoint_ns / 1e6
        columns["gc_ms"][row, column] = _per_step(own.gc, own.index)
        columns["compile_ms"][row, column] = _per_step(own.compile, own.index)
        if own.device_ns is not None:
            columns["device_ms"][row, column] = np.where(
                own.device_ns >= 0, own.device_ns / 1e6, np.nan
            )
        counts["samples"][row, column] = np.where(own.samples >= 0, own.samples, np.nan)
        counts["tokens"][row, column] = np.where(own.tokens >= 0, own.tokens, np.nan)
        has_eval[row] |= own.has_eval
        profiled[row] |= own.profiled
    return StepTable(
        step=step, ranks=ranks, **columns, **counts, has_eval=has_eval, profiled=profiled
    )


_MS_COLUMNS = ("ms", "input_ms", "checkpoint_ms", "gc_ms", "compile_ms", "device_ms")


def _per_step(spans: Spans, index: NDArray[np.int32]) -> F64:
    total = np.zeros(len(index))
    order = np.argsort(index)
    place = np.searchsorted(index[order], spans.step)
    known = place < len(index)
    known[known] = index[order][place[known]] == spans.step[known]
    np.add.at(total, order[place[known]], spans.duration_ns[known] / 1e6)
    return total


@dataclass(frozen=True, slots=True)
class SteadySteps:
    """Which steps show the run at its usual pace, without profiler, evaluation or warm-up."""

    mask: Bool
    first: int  # row from which the run is past its warm-up
    found: bool  # False: the pace never settled


def steady_steps(table: StepTable) -> SteadySteps:
    """Find the steady, unprofiled steps.

    Left out are step 0, steps with an evaluation, profiled steps and the one after them (which pays
    for the export), and everything before the pace settles.
    """
    after_profile = np.zeros(len(table.step), dtype=np.bool_)
    after_profile[1:] = table.profiled[:-1]
    usable = (table.step > 0) & ~table.has_eval & ~table.profiled & ~after_profile
    rows = np.flatnonzero(usable)
    answer = steady_state(table.slowest_ms[rows])
    found = not isinstance(answer, Refusal)
    if not isinstance(answer, Refusal):
        start = answer.first
    elif len(rows) < 2 * WINDOW_STEPS:  # too few to see a pace settle, or that it does not
        start, found = slow_head(table.slowest_ms[rows]), True
    else:
        start = WINDOW_STEPS
    first = int(rows[start]) if len(rows) else 0
    return SteadySteps(usable & (np.arange(len(table.step)) >= first), first, found)

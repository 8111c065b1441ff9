"""The step lines of all ranks as one table: what each rank recorded of each step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.trace.model import I64, Bool, Spans, StepLines

F64 = NDArray[np.float64]

STEADY_BLOCK = 10
STEADY_TOLERANCE = 0.02
"""Steady: medians of consecutive blocks of steps differ by less than this (models.md 7)."""


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
        counts["samples"][row, column] = np.where(own.samples >= 0, own.samples, np.nan)
        counts["tokens"][row, column] = np.where(own.tokens >= 0, own.tokens, np.nan)
        has_eval[row] |= own.has_eval
        profiled[row] |= own.profiled
    return StepTable(
        step=step, ranks=ranks, **columns, **counts, has_eval=has_eval, profiled=profiled
    )


_MS_COLUMNS = ("ms", "input_ms", "checkpoint_ms", "gc_ms", "compile_ms")


def _per_step(spans: Spans, index: NDArray[np.int32]) -> F64:
    total = np.zeros(len(index))
    order = np.argsort(index)
    place = np.searchsorted(index[order], spans.step)
    known = place < len(index)
    known[known] = index[order][place[known]] == spans.step[known]
    np.add.at(total, order[place[known]], spans.duration_ns[known] / 1e6)
    return total


@dataclass(frozen=True, slots=True)
class Steady:
    """Which steps show the run at its usual pace, without profiler, evaluation or warm-up."""

    mask: Bool
    first: int  # row from which the run is past its warm-up
    found: bool  # False: the pace never settled


def steady_steps(table: StepTable) -> Steady:
    """Find the steady, unprofiled steps.

    Left out are step 0, steps with an evaluation, profiled steps and the one after them (which pays
    for the export), and everything before the pace settles.
    """
    after_profile = np.zeros(len(table.step), dtype=np.bool_)
    after_profile[1:] = table.profiled[:-1]
    usable = (table.step > 0) & ~table.has_eval & ~table.profiled & ~after_profile
    rows = np.flatnonzero(usable)
    if len(rows) < 2 * STEADY_BLOCK:  # too few to see a pace settle
        head = _skip_slow_head(table.slowest_ms[rows])
        first = int(rows[head]) if len(rows) else 0
        return Steady(usable & (np.arange(len(table.step)) >= first), first, True)
    settled = _settles_at(table.slowest_ms[rows])
    first = int(rows[settled if settled is not None else STEADY_BLOCK])
    mask = usable & (np.arange(len(table.step)) >= first)
    return Steady(mask, first, settled is not None)


def _settles_at(ms: F64) -> int | None:
    """Return the first of a series from which block medians stay together, None if none in half.

    Blocks may differ by 2 % or by what the spread within them explains, whichever is more.
    """
    block = STEADY_BLOCK
    blocks = len(ms) // block
    start = len(ms) - blocks * block
    pieces = ms[start:].reshape(blocks, block)
    medians = np.median(pieces, axis=1)
    deviation = float(np.median(np.abs(pieces - medians[:, None])))
    noise = 4 * 1.253 * 1.4826 * deviation / np.sqrt(block)
    allowed = np.maximum(STEADY_TOLERANCE * medians[1:], noise)
    moves = np.flatnonzero(np.abs(np.diff(medians)) > allowed)
    settled = int(moves[-1]) + 1 if len(moves) else 0
    if settled > blocks // 2:
        return None
    return start + settled * block if settled else _skip_slow_head(ms)


def _skip_slow_head(ms: F64) -> int:
    """Drop the first steps while each is far slower than the rest (caches, allocator, autotune)."""
    usual = float(np.median(ms)) if len(ms) else 0.0
    head = 0
    while head < len(ms) // 4 and ms[head] > 1.25 * usual:
        head += 1
    return head

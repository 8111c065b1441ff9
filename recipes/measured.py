"""What a trial says: the median step of its slowest rank, its numbers, what its recipes did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perfkit.analyzers.step_table import tabulate_steps
from perfkit.analyzers.telemetry import node_loads
from perfkit.recipes.activation import Choice
from perfkit.trace.model import Run
from perfkit.trace.numerics import RankNumbers, read_numbers
from perfkit.trace.recipe_log import read_log

STEPS = 40
WARM_UP = 10
LEAST_STEPS = 8
"""Timed steps below which a trial says nothing."""
NUMBERS_EVERY = 10
"""The gradients' norm is computed in every tenth step, which is left out of the timing."""
AFTER_COMPILING = 5
WORKER_NAMES = ("workers", "num_workers")
PREFETCH_NAMES = ("prefetch", "prefetch_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A trial to be run: the recipes that are on, and for how many steps."""

    name: str
    stack: tuple[Choice, ...] = ()
    steps: int = STEPS
    discard: int = WARM_UP
    seed: int = 0  # trials of one seed draw the same numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A trial that was run. reason: why it failed, "" if it did not."""

    wanted: Wanted
    ok: bool
    reason: str = ""
    step_ms: float | None = None  # None: it made too few steps
    steps_made: int = 0
    seconds: float = 0.0
    numbers: Sequence[RankNumbers] = ()
    refused: Mapping[str, str] = field(default_factory=dict)  # recipe -> why it did nothing
    others: float | None = None  # share of the processors that other programs used

    @property
    def peak_bytes(self) -> int | None:
        """The most device memory that any rank used."""
        return max((n.peak_bytes for n in self.numbers if n.peak_bytes is not None), default=None)


def measure(wanted: Wanted, run: Run, seconds: float) -> Measured:
    """Read what a trial that ended well says."""
    step_ms, made = step_time(run, wanted.discard)
    log = read_log(run)
    asked = [choice.recipe for choice in wanted.stack if choice.recipe.in_rank]
    reasons = {r.id: "; ".join(log.reasons(r.id)) for r in asked if log.reasons(r.id)}
    silent = [r.id for r in asked if r.id not in reasons and not log.took_effect(r.id)]
    return Measured(
        wanted=wanted,
        ok=True,
        step_ms=step_ms,
        steps_made=made,
        seconds=seconds,
        numbers=read_numbers(run),
        refused=reasons | dict.fromkeys(silent, "it found nothing in the script to act on"),
        others=others(run),
    )


def others(run: Run) -> float | None:
    """Return the share of the processors that programs beside the run used, the busiest machine's.

    Time that a hypervisor took counts too. None where the machine was not watched.
    """
    shares = [
        (load.other_cores + (load.stolen_cores or 0.0)) / load.processors
        for load in node_loads(run)
        if load.other_cores is not None and load.processors
    ]
    return max(shares, default=None)


def step_time(run: Run, discard: int) -> tuple[float | None, int]:
    """Return the median step of the slowest rank (ms) after `discard` steps, and all steps made.

    Steps with an evaluation, a profiler or our own numbers in them do not count, nor what comes
    before the fifth step after the last compilation. None where fewer than eight are left.
    """
    table = tabulate_steps({record.rank: record.lines for record in run.ranks})
    made = len(table.step)
    compiled = table.step[np.nansum(table.compile_ms, axis=1) > 0] if made else table.step
    first = max(discard, int(compiled[-1]) + AFTER_COMPILING) if len(compiled) else discard
    mask = (table.step >= first) & ~table.has_eval & ~table.profiled
    mask &= table.step % NUMBERS_EVERY != 0
    if np.count_nonzero(mask) < LEAST_STEPS:
        return None, made
    return float(np.median(table.slowest_ms[mask])), made


def backlog(stack: Sequence[Choice]) -> int:
    """Return the batches that loader workers have ready before the first step is measured."""
    return max((_backlog(choice.recipe.values(choice.given)) for choice in stack), default=0)


def _backlog(values: Mapping[str, object]) -> int:
    workers = [values[name] for name in WORKER_NAMES if name in values]
    ahead = [values[name] for name in PREFETCH_NAMES if name in values]
    if not workers or not isinstance(workers[0], int):
        return 0
    factor = ahead[0] if ahead and isinstance(ahead[0], int) else 2
    return workers[0] * factor

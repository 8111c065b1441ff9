"""Where a run's warm-up ends: the first step from which its speed stays level.

The one answer to this question: the whole-run view, comparisons and experiments all use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.refusal import Refusal

F64 = NDArray[np.float64]

WINDOW_STEPS = 10
TOLERANCE = 0.02
"""Medians of neighbouring windows differ by less than this (models.md section 7)."""
MOST_DRIFT = 3 * TOLERANCE
"""First and last window differ by less than this, or a slow drift would pass between neighbours."""
SLOW_HEAD = 1.25
"""A first step is slow if it takes this much longer than the median of what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Steps from `first` on are steady; `level` is their median, in the unit of the input."""

    first: int
    level: float


def steady_state(
    step_times: Sequence[float] | F64, *, window: int = WINDOW_STEPS, at_least: int = 0
) -> Steady | Refusal:
    """Find the first step such that medians of consecutive windows agree for the rest of the run.

    Two medians agree if they differ by less than 2 %, or by less than the spread of the steps
    within the windows explains. At least two windows must remain, and half of the run, else it is
    refused. `at_least` steps are always discarded (those known to compile, tune or fill caches);
    so are single slow steps at the head of what is left.
    """
    times = np.asarray(step_times, np.float64)
    if len(times) - at_least < 2 * window:
        return Refusal(
            reason=f"{len(times)} steps are too few to see a steady state",
            remedy=f"run at least {at_least + 2 * window} steps",
        )
    last = len(times) - max(2 * window, (len(times) - at_least) // 2)
    for first in range(at_least, last + 1):
        if _level(times[first:], window):
            first += slow_head(times[first:])  # noqa: PLW2901 - single steps, not windows
            return Steady(first=first, level=float(np.median(times[first:])))
    return Refusal(
        reason="the run never settles: neighbouring windows of steps keep differing",
        remedy="run longer, or on a quieter machine",
    )


def slow_head(times: F64) -> int:
    """Count the first steps that are each far slower than the rest (caches, allocator, tuning)."""
    usual = float(np.median(times)) if len(times) else 0.0
    head = 0
    while head < len(times) // 4 and times[head] > SLOW_HEAD * usual:
        head += 1
    return head


def _level(times: F64, window: int) -> bool:
    whole = len(times) // window
    pieces = times[len(times) - whole * window :].reshape(whole, window)
    medians = np.median(pieces, axis=1)
    deviation = float(np.median(np.abs(pieces - medians[:, None])))
    # Four standard errors of a difference of medians of normal steps.
    noise = 4 * 1.253 * 1.4826 * deviation / np.sqrt(window)
    if (np.abs(np.diff(medians)) >= np.maximum(TOLERANCE * medians[:-1], noise)).any():
        return False
    return bool(abs(medians[-1] - medians[0]) < max(MOST_DRIFT * medians[0], noise))

"""Where a run's warm-up ends: the first step from which its speed stays level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.refusal import Refusal

WINDOW_STEPS = 10
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Steps from `first` on are steady; `level` is their median, in the unit of the input."""

    first: int
    level: float


def steady_state(
    step_times: Sequence[float],
    *,
    window: int = WINDOW_STEPS,
    tolerance: float = TOLERANCE,
    at_least: int = 0,
) -> Steady | Refusal:
    """Find the smallest w such that medians of consecutive windows agree for the rest of the run.

    Agreement: the medians of any two neighbouring windows of `window` steps from w on differ by
    less than `tolerance` (models.md section 7). A slow drift therefore passes between neighbours,
    so the first and last window must agree within three tolerances as well. `at_least` steps are
    always discarded (those known to compile, tune or fill caches). Two whole windows must remain.
    """
    times = np.asarray(step_times, np.float64)
    if len(times) - at_least < 2 * window:
        return Refusal(
            reason=f"{len(times)} steps are too few to see a steady state",
            remedy=f"run at least {at_least + 2 * window} steps",
        )
    for first in range(at_least, len(times) - 2 * window + 1):
        whole = (len(times) - first) // window
        medians = np.median(times[first : first + whole * window].reshape(whole, window), axis=1)
        changes = np.abs(np.diff(medians)) / medians[:-1]
        drift = abs(medians[-1] / medians[0] - 1)
        if changes.max() < tolerance and drift < 3 * tolerance:
            return Steady(first=first, level=float(np.median(times[first:])))
    return Refusal(
        reason="the run never settles: neighbouring windows of steps keep differing",
        remedy="run longer, or on a quieter machine",
    )

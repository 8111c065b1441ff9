"""How often to checkpoint, and what failures leave of a long run (goodput).

delta: time to write a checkpoint; M: mean time between failures of the whole job; R: time to be
training again after a failure. Failures are assumed Poisson. Sources: Young 1974, Daly 2006.
"""

from dataclasses import dataclass
from math import exp, expm1, sqrt

from scipy.optimize import minimize_scalar


def young_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return sqrt(2 delta M): the work between checkpoints, good while delta << M."""
    return sqrt(2 * write_s * mtbf_s)


def daly_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return Daly's higher-order interval; M itself where delta >= 2 M.

    sqrt(2 delta M) [1 + 1/3 sqrt(delta/2M) + 1/9 (delta/2M)] - delta.
    """
    if write_s >= 2 * mtbf_s:
        return mtbf_s
    x = write_s / (2 * mtbf_s)
    return sqrt(2 * write_s * mtbf_s) * (1 + sqrt(x) / 3 + x / 9) - write_s


def optimal_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return the interval that minimises the exact expected time (the restart drops out)."""
    guess = daly_interval_s(write_s, mtbf_s)
    found = minimize_scalar(
        lambda interval: slow_down(interval, write_s, mtbf_s),
        bounds=(guess / 10, guess * 10),
        method="bounded",
        options={"xatol": guess * 1e-9},
    )
    return float(found.x)


def slow_down(interval_s: float, write_s: float, mtbf_s: float, *, restart_s: float = 0.0) -> float:
    """Return expected wall time over work: M e^(R/M) (e^((tau+delta)/M) - 1) / tau (Daly)."""
    stretch = exp(restart_s / mtbf_s) * expm1((interval_s + write_s) / mtbf_s)
    return mtbf_s * stretch / interval_s


def first_order_waste(
    interval_s: float, write_s: float, mtbf_s: float, *, restart_s: float = 0.0
) -> float:
    """Return delta/tau + tau/2M + R/M: the share lost, good while it is small."""
    return write_s / interval_s + interval_s / (2 * mtbf_s) + restart_s / mtbf_s


def goodput(interval_s: float, write_s: float, mtbf_s: float, *, restart_s: float = 0.0) -> float:
    """Return the share of wall time that advances the training: 1 / slow_down."""
    return 1 / slow_down(interval_s, write_s, mtbf_s, restart_s=restart_s)


def cluster_mtbf_s(component_mtbf_s: float, components: int) -> float:
    """Return M_1 / N for independent components any of which stops the job."""
    return component_mtbf_s / components


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlan:
    """What to set, and what it gives."""

    interval_s: float
    goodput: float
    lost_to_writing: float  # shares of wall time; with goodput they sum to one
    lost_to_failures: float


def checkpoint_plan(write_s: float, mtbf_s: float, *, restart_s: float) -> CheckpointPlan:
    """Return the optimal interval with the goodput that it gives."""
    interval = optimal_interval_s(write_s, mtbf_s)
    share = goodput(interval, write_s, mtbf_s, restart_s=restart_s)
    writing = share * write_s / interval
    return CheckpointPlan(
        interval_s=interval,
        goodput=share,
        lost_to_writing=writing,
        lost_to_failures=1 - share - writing,
    )


def goodput_of_run(useful_steps: int, ideal_step_s: float, wall_s: float) -> float:
    """Return useful steps * ideal step time / wall time, of a run that was measured."""
    return useful_steps * ideal_step_s / wall_s

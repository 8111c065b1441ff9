"""What a series says in words: strong against weak in its own numbers, and what limits it."""

from collections.abc import Sequence

from perfkit.analyzers.scaling_losses import CAUSES
from perfkit.analyzers.scaling_result import ScalingPoint, Warned
from perfkit.analyzers.scaling_runs import MeasuredRun
from perfkit.units import count, milliseconds, percent, ratio

FLAT = 0.25
"""Karp-Flatt values that differ by less than this share of their mean count as constant."""
FEW_RUNS = 3


def sentences(points: Sequence[ScalingPoint], mode: str) -> tuple[str, ...]:
    """Return strong against weak scaling in two sentences with the numbers of this series."""
    first, last = points[0], points[-1]
    growth = last.ranks / first.ranks
    per_rank = first.samples_per_step / first.ranks
    if mode == "strong":
        return (
            f"Strong scaling keeps the global batch, here {count(first.samples_per_step)} samples "
            f"a step, and asks how much sooner a step ends: from {first.ranks} to {last.ranks} "
            f"ranks it went from {milliseconds(first.step_ms)} to {milliseconds(last.step_ms)}, "
            f"{ratio(last.speed_up)} as fast where {ratio(growth)} would be ideal "
            f"({percent(last.efficiency)} efficiency).",
            f"Weak scaling keeps the batch of a rank instead, here it would be {count(per_rank)} "
            f"samples, and asks whether a step takes no longer when the work grows with the ranks; "
            "it nearly always looks better, because communication is held against more compute, "
            "but its global batch grows, which changes how the model converges.",
        )
    return (
        f"Weak scaling keeps the batch of a rank, here {count(per_rank)} samples, and asks "
        f"whether a step takes no longer when the work grows with the ranks: from {first.ranks} to "
        f"{last.ranks} ranks a step went from {milliseconds(first.step_ms)} to "
        f"{milliseconds(last.step_ms)} ({percent(last.efficiency)} efficiency), and the job did "
        f"{ratio(last.speed_up)} the samples per second where {ratio(growth)} would be ideal.",
        f"Strong scaling keeps the global batch instead, here it would be "
        f"{count(first.samples_per_step)} samples shared by all ranks, and asks how much sooner "
        "a step ends; it nearly always looks worse, because the same communication is held against "
        "less compute, but it trains the same model with the same batch.",
    )


def warnings(
    points: Sequence[ScalingPoint],
    runs: Sequence[MeasuredRun],
    asked_mode: str,
    mode: str,
    *,
    allowed: bool,
) -> tuple[Warned, ...]:
    """Return what limits the series, most serious first."""
    found = [
        *_mode(asked_mode, mode),
        *_oversubscribed(points, allowed=allowed),
        *_threads(runs),
        *_looks_serial(points),
        *_few_runs(points),
    ]
    return tuple(found)


def _mode(asked: str, found: str) -> list[Warned]:
    if not asked or asked == found:
        return []
    text = (
        f"{asked} scaling was asked for, but the recorded samples per step say {found}: the "
        f"series is treated as {found}"
    )
    return [Warned(code="NOT_THE_MODE_ASKED_FOR", message=text)]


def _oversubscribed(points: Sequence[ScalingPoint], *, allowed: bool) -> list[Warned]:
    crowded = [p for p in points if p.oversubscribed]
    if not crowded:
        return []
    listed = ", ".join(str(p.ranks) for p in crowded)
    what = (
        "they are in the fits because --use-oversubscribed says so: right only if ranks mostly wait"
        if allowed
        else "they are shown, and in no fit and no prediction"
    )
    text = f"{listed} ranks shared {crowded[0].cores} cores: {what}"
    return [Warned(code="OVERSUBSCRIBED", message=text)]


def _threads(runs: Sequence[MeasuredRun]) -> list[Warned]:
    """A classic trap: torchrun sets one thread a rank for several ranks, and none for one rank."""
    known = {run.ranks: run.threads for run in runs if run.threads is not None}
    if len(set(known.values())) < 2:
        return []
    listed = ", ".join(f"{known[p]} on {p}" for p in sorted(known))
    text = (
        f"ranks computed with different numbers of threads (threads on ranks: {listed}), so fewer "
        "ranks had more cores each; set OMP_NUM_THREADS=1 for all"
    )
    return [Warned(code="THREADS_DIFFER", message=text)]


def _looks_serial(points: Sequence[ScalingPoint]) -> list[Warned]:
    """A bandwidth-bound ring all-reduce gives a constant Karp-Flatt value, as serial code does."""
    values = [p.karp_flatt for p in points if p.karp_flatt is not None]
    if len(values) < 2 or min(values) <= 0:
        return []
    mean = sum(values) / len(values)
    if max(values) - min(values) > FLAT * mean:
        return []
    if not points[-1].losses:
        cause = "cannot tell, these runs have no trace"
    else:
        cause = CAUSES.get(points[-1].main_loss or "", "no single one")
    text = (
        f"the Karp-Flatt value is about constant ({percent(mean)}), which serial code and a ring "
        f"all-reduce bound by bandwidth both give; the budget, not the curve, names the cause: "
        f"{cause}"
    )
    return [Warned(code="CURVE_NAMES_NO_CAUSE", message=text)]


def _few_runs(points: Sequence[ScalingPoint]) -> list[Warned]:
    few = [p.ranks for p in points if len(p.runs) < FEW_RUNS]
    if not few:
        return []
    text = (
        f"fewer than {FEW_RUNS} runs on {', '.join(map(str, few))} ranks: intervals over runs are "
        "too narrow, or there are none; --repeats 3 or more"
    )
    return [Warned(code="FEW_RUNS", message=text)]

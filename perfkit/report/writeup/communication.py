"""Communication by the trace and by the lab's own method, and why the two differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log

from perfkit import units
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.two_arms import difference
from perfkit.report.writeup.document import Block, Gap, Grid, Paragraph
from perfkit.report.writeup.evidence import SILENT, Arm, Evidence

COMMUNICATION = ("comm_transfer", "pipe_bubble", "comm_wait", "comm_unmatched")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Communication of a step in ms, and its share."""

    compute_ms: float
    communication_ms: float
    share: float
    low: float | None = None  # 95 % limits of the share over runs
    high: float | None = None


def by_trace(found: Evidence) -> Overhead | None:
    """Exposed communication of the profiled steps, put on the unprofiled step."""
    budget, step = found.base.first.budget, found.base.step_ms
    if not budget.per_rank or step is None:
        return None
    share = budget.rollup.get("communication", 0.0)
    return Overhead(
        compute_ms=budget.rollup.get("compute", 0.0) * step,
        communication_ms=share * step,
        share=share,
    )


def by_lab(found: Evidence) -> Overhead | None:
    """(step - step without gradient communication) / step, of unprofiled steps."""
    silent = found.arm(SILENT)
    step = found.base.step_ms
    without = None if silent is None else silent.step_ms
    if step is None or without is None:
        return None
    assert silent is not None
    limits = _limits(found.base, silent)
    return Overhead(
        compute_ms=without,
        communication_ms=step - without,
        share=(step - without) / step,
        low=limits[0] if limits else None,
        high=limits[1] if limits else None,
    )


def _limits(base: Arm, silent: Arm) -> tuple[float, float] | None:
    """Return 95 % limits of 1 - step without / step, by t on the logarithms of runs."""
    times = [
        [log(a.steps.median_ms) for a in arm.analyses if a.steps.median_ms]
        for arm in (base, silent)
    ]
    found = difference(times[0], times[1])
    return None if isinstance(found, Refusal) else (1 - exp(found.high), 1 - exp(found.low))


def blocks(found: Evidence) -> Iterator[Block]:
    """Yield both ways side by side, with the reason for their difference."""
    traced, lab = by_trace(found), by_lab(found)
    rows = []
    if traced is not None:
        rows.append(_row("trace: exposed communication", traced))
    if lab is not None:
        rows.append(_row("lab: same training, no_sync", lab))
    if rows:
        header = ("Method", "Compute time", "Communication time", "Communication overhead")
        yield Grid(header=header, rows=tuple(rows))
    if traced is None:
        yield Gap(what="the budget of the baseline's trace", command=found.measure)
    if lab is None:
        yield Gap(what="the training without gradient communication", command=found.measure)
    if traced is not None and lab is not None:
        yield Paragraph(text=_why(traced, lab))


def _row(name: str, found: Overhead) -> tuple[str, ...]:
    return (
        name,
        units.milliseconds(found.compute_ms),
        units.milliseconds(found.communication_ms),
        units.percent(found.share)
        + (
            ""
            if found.low is None or found.high is None
            else f" ({units.percent(found.low)} to {units.percent(found.high)})"
        ),
    )


def _why(traced: Overhead, lab: Overhead) -> str:
    if lab.low is not None and lab.low <= 0:
        return (
            "The limits of the lab's number hold zero: the step times of different runs differ by "
            "more than communication costs, so that this way cannot tell it here, and more or "
            "quieter runs would be needed. The trace needs no second run: it counts the time in "
            f"which a rank does nothing but communicate, {units.percent(traced.share)} of the step."
        )
    gap = lab.share - traced.share
    if abs(gap) < 0.01:
        return (
            "Both ways agree to a percent of the step. They measure different things all the same: "
            "the trace counts the time in which a rank does nothing but communicate, the lab's way "
            "counts what a step loses by communicating at all."
        )
    more = "more" if gap > 0 else "less"
    return (
        f"The lab's way gives {more} ({units.percent(lab.share)} against "
        f"{units.percent(traced.share)}), because it asks another question: the trace counts only "
        "time in which a rank does nothing but communicate, while taking communication away also "
        "takes away the copies into buckets and the hooks, the computing that slows down beside a "
        "transfer that shares its cores or memory, and the waits for late ranks, which the trace "
        "shows as communication and no_sync turns into nothing at all (its 'compute time' is a "
        "whole step without communication, with input and host work in it). The lab's number also "
        "compares different runs, so that noise between runs goes into it."
    )

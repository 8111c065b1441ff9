"""The figures of a write-up."""

from collections.abc import Sequence

from perfkit import units
from perfkit.report import figure_svg, palette
from perfkit.report.model import Bar, BarChart, Segment
from perfkit.report.roofline_charts import roofline_chart
from perfkit.report.writeup.document import Figure
from perfkit.report.writeup.evidence import Arm, work_ratio


def budgets(arms: Sequence[Arm], name: str) -> Figure | None:
    """Where a step goes in each arm, the baseline first; None where no arm has a trace.

    A step that holds more samples is drawn for those of the baseline's step.
    """
    times = {arm.role: (arm.step_ms or 0.0) / work_ratio(arms[0], arm) for arm in arms}
    longest = max(times.values(), default=0.0)
    shown = [arm for arm in arms if arm.first.budget.per_rank and arm.step_ms]
    if not shown or not longest:
        return None
    bars, used = [], set()
    for arm in shown:
        classes = arm.first.budget.classes
        shares = [(k, time.share) for k in palette.ORDER if (time := classes.get(k)) is not None]
        used |= {key for key, share in shares if share > 0}
        step = times[arm.role]
        segments = tuple(
            Segment(
                key=key,
                width=share * step / longest * 100,
                text="",
                hover=f"{palette.label(key)}: {units.milliseconds(share * step)}",
            )
            for key, share in shares
            if share > 0
        )
        bars.append(Bar(label=arm.title, total=units.milliseconds(step), segments=segments))
    chart = BarChart(
        id=name,
        caption="Where a step goes",
        bars=tuple(bars),
        legend=tuple(k for k in palette.ORDER if k in used),
        note="Shares of the profiled steps, on the median unprofiled step; mean over ranks. A step "
        "that accumulates gradients is drawn for the samples of the baseline's step.",
    )
    return _figure(name, "Time of a step by class, before and after each change", chart)


def throughputs(arms: Sequence[Arm]) -> Figure | None:
    """Samples per second of each arm."""
    known = [(arm, arm.rate) for arm in arms if arm.rate]
    if len(known) < 2:
        return None
    most = max(rate or 0.0 for _, rate in known)
    bars = tuple(
        Bar(
            label=arm.title,
            total=units.rate(rate, "samples"),
            segments=(
                Segment(
                    key="compute",
                    width=(rate or 0.0) / most * 100,
                    text="",
                    hover=units.rate(rate, "samples"),
                ),
            ),
        )
        for arm, rate in known
    )
    chart = BarChart(
        id="throughput", caption="Throughput", bars=bars, legend=(), note="Geometric mean of runs."
    )
    return _figure("throughput", "Throughput of each variant", chart)


def roofline(arm: Arm) -> Figure | None:
    """The baseline's operators under the roofs; None without a trace or ceilings."""
    found = arm.first.roofline
    chart = roofline_chart(found) if found is not None and found.ceilings else None
    return None if chart is None else _figure("roofline", "Operators under the roofs", chart)


def _figure(name: str, caption: str, chart: figure_svg.Chart) -> Figure:
    return Figure(name=name, caption=caption, svg=figure_svg.figure(caption, [chart]))

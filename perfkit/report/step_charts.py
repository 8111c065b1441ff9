"""Steps as charts: under the network's roof, between all ridges, and against their bounds."""

from collections.abc import Iterable, Sequence

from perfkit import units
from perfkit.report import axes
from perfkit.report.model import Axis, Bound, BoundChart, Dot, Dots, Line, PlotChart
from perfkit.report.roofline_charts import is_measured, peak_lines, slope_lines
from perfkit.roofline.step import StepRoofline
from perfkit.roofline.summary import IN_CACHE, RunRoofline, UsedCeiling

BARS = 16
"""Ranks whose steps are drawn against their bounds."""


def network_chart(found: RunRoofline) -> PlotChart | None:
    """Return the network roof: FLOP per byte sent against FLOP per second of the step.

    None without a roof to draw: the table then says where the run sits.
    """
    steps = [s for s in _sized(found) if s.executed_flop and s.step_s]
    peaks, slopes = _peak(found), _levels(steps)
    if not steps or not (peaks or slopes):
        return None
    sent = [level.intensity for s in steps for level in s.levels if level.intensity]
    ridges = [peak.value / slope.value for peak in peaks for slope in slopes]
    x = axes.decades("FLOP per byte that a rank sends", sent + ridges, units.number)
    speeds = [s.executed_flop / s.step_s for s in steps]
    y = axes.decades(
        "FLOP/s over the step",
        speeds + [peak.value for peak in peaks],
        units.flops,
        suffix="FLOP/s",
    )
    return PlotChart(
        id="network-chart",
        caption="The step under the network's roof, one mark per rank and level",
        x=x,
        y=y,
        dots=_rank_dots(steps),
        lines=(*slope_lines(slopes, peaks, x, y), *peak_lines(peaks, slopes, x)),
        note="Left of the ridge the network needs longer than computing does.",
    )


def _sized(found: RunRoofline) -> list[StepRoofline]:
    """Return the steps of which all that the network carries is known, and that use it."""
    return [step for step in found.ranks if step.levels and not step.unsized_calls]


def _peak(found: RunRoofline) -> list[UsedCeiling]:
    """Return the ranks' peak over the precisions that they used; [] where none is known."""
    peak = max((s.peak_flop_per_s or 0.0 for s in found.ranks), default=0.0)
    if not peak:
        return []
    sources = [c.source for c in found.ceilings if c.quantity == "matrix"]
    source = next((s for s in sources if is_measured(s)), "published")
    return [UsedCeiling(quantity="peak", precision="", value=peak, unit="FLOP/s", source=source)]


def _levels(steps: Iterable[StepRoofline]) -> list[UsedCeiling]:
    found: dict[str, UsedCeiling] = {}
    for level in (level for step in steps for level in step.levels):
        if level.bandwidth_bytes_per_s:
            found[level.name] = UsedCeiling(
                quantity=level.name,
                precision="",
                value=level.bandwidth_bytes_per_s,
                unit="bytes/s",
                source=level.source,
            )
    return list(found.values())


def _rank_dots(steps: Sequence[StepRoofline]) -> tuple[Dots, ...]:
    groups: dict[str, list[Dot]] = {}
    for step in steps:
        speed = step.executed_flop / step.step_s
        for level in step.levels:
            if not level.intensity:
                continue
            hover = (
                f"rank {step.rank}, {level.name}\n{units.number(level.intensity)} FLOP per byte "
                f"sent\n{units.size(level.bus_bytes)} sent per step\n{units.flops(speed)}"
            )
            dot = Dot(x=level.intensity, y=speed, radius=6.0, hover=hover)
            groups.setdefault(level.name, []).append(dot)
    shapes = ("circle", "diamond")
    keys = ("limit-network", "limit-memory")
    return tuple(
        Dots(name=level, key=keys[i % 2], shape=shapes[i % 2], dots=tuple(dots))
        for i, (level, dots) in enumerate(groups.items())
    )


def ridge_chart(found: RunRoofline) -> PlotChart | None:
    """Return where the steps lie between the ridges of memory and network.

    None unless peak, memory and network bandwidth are all known. Lines through the crossing of
    both ridges part the plane by what takes longest: computing, memory or network.
    """
    memory = next((c.value for c in found.ceilings if c.quantity == "memory"), None)
    steps = [s for s in _sized(found) if s.intensity]
    peaks, levels = _peak(found), _levels(steps)
    if memory is None or not peaks or not levels:
        return None
    peak = peaks[0].value
    network = min(level.value for level in levels)
    ridge = (peak / network, peak / memory)
    dots = _ridge_dots(steps)
    x = axes.decades(
        "FLOP per byte that a rank sends",
        [ridge[0], *(d.x for g in dots for d in g.dots)],
        units.number,
    )
    y = axes.decades(
        "FLOP per byte of memory traffic",
        [ridge[1], *(d.y for g in dots for d in g.dots)],
        units.number,
    )
    return PlotChart(
        id="ridge-chart",
        caption="The step between the ridges",
        x=x,
        y=y,
        dots=dots,
        lines=_ridges(x, y, ridge),
        note="Upper right: computing takes longest. Left, above the diagonal: the network does. "
        "Below: memory does." + _of_main_memory(found),
    )


def _of_main_memory(found: RunRoofline) -> str:
    if all(ceiling.quantity != IN_CACHE for ceiling in found.ceilings):
        return ""
    return " Memory is main memory here; what stays in the cache takes less, as T_lo reckons it."


def _ridges(x: Axis, y: Axis, ridge: tuple[float, float]) -> tuple[Line, ...]:
    across, up = ridge
    down = min(across / x.low, up / y.low)
    return (
        Line(name=f"network ridge {units.number(across)}", points=((across, y.high), ridge)),
        Line(name=f"memory ridge {units.number(up)}", points=(ridge, (x.high, up))),
        Line(
            name="network and memory take equally long",
            points=((across / down, up / down), ridge),
            labelled=False,
        ),
    )


def _ridge_dots(steps: Sequence[StepRoofline]) -> tuple[Dots, ...]:
    dots = [
        Dot(
            x=level.intensity,
            y=step.intensity or 0.0,
            radius=6.0,
            hover=f"rank {step.rank}, {level.name}\n{units.number(level.intensity)} FLOP per byte "
            f"sent\n{units.number(step.intensity)} FLOP per byte of memory\n"
            f"bound by {step.limit or 'nothing known'}",
        )
        for step in steps
        for level in step.levels
        if level.intensity
    ]
    return (Dots(name="step of a rank", key="limit-tensor", shape="circle", dots=tuple(dots)),)


def step_bound_chart(found: RunRoofline) -> BoundChart | None:
    """Return each rank's mean step against T_lo; None where no ceiling bounds a step."""
    steps = [s for s in found.ranks if s.ceilings.lowest_s > 0][:BARS]
    longest = max((max(s.step_s, s.ceilings.lowest_s) for s in steps), default=0.0)
    if longest <= 0:
        return None
    shown = f" {BARS} of {len(found.ranks)} ranks." if len(found.ranks) > len(steps) else ""
    return BoundChart(
        id="step-bound-chart",
        caption="Steps: bound against measured",
        rows=tuple(_step_bound(step, longest) for step in steps),
        legend=("limit-none",),
        longest=longest * 1e3,
        unit=" ms",
        note="Inner bar: T_lo, the longest of computing, memory and network time at the ceilings, "
        f"everything overlapped.{shown}",
    )


def _step_bound(step: StepRoofline, longest: float) -> Bound:
    return Bound(
        name=f"rank {step.rank}",
        key="limit-none",
        measured=round(step.step_s / longest * 100, 3),
        least=round(step.ceilings.lowest_s / longest * 100, 3),
        text=units.seconds(step.step_s),
        hover=f"rank {step.rank}\nmeasured {units.seconds(step.step_s)}, at least "
        f"{units.seconds(step.ceilings.lowest_s)} (bound by {step.limit or 'nothing known'})",
    )

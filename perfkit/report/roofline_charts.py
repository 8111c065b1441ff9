"""Operators as charts: under their roofs, and their time against its bound."""

from collections.abc import Iterable, Sequence
from math import sqrt

from perfkit import units
from perfkit.report import axes, palette, show
from perfkit.report.geometry import LABEL_ROOM
from perfkit.report.model import Axis, Bound, BoundChart, Dot, Dots, Line, PlotChart
from perfkit.report.names import name
from perfkit.roofline.calls import Uncosted
from perfkit.roofline.place import Point
from perfkit.roofline.summary import IN_CACHE, RunRoofline, UsedCeiling

MOST_POINTS = 400
"""Operators drawn at most; those with most time above their roof come first."""

BARS = 20

_SHAPES = {"tensor": "circle", "vector": "square", "memory": "diamond", "launch": "triangle"}
_LARGEST, _SMALLEST = 20.0, 3.5


def limit_key(limit: str | None) -> str:
    """Return the colour key of what bounds an operator."""
    key = f"limit-{limit}"
    return key if key in palette.LIMITS else "limit-none"


def roofline_chart(found: RunRoofline) -> PlotChart | None:
    """Return the log-log roofline: bandwidth slopes, peaks, one mark per operator and shape."""
    drawable = [p for p in found.points if p.executed_flop > 0 and p.bytes > 0 and p.time_s > 0]
    points = drawable[:MOST_POINTS]
    peaks = [c for c in found.ceilings if c.quantity in ("matrix", "vector")]
    slopes = [c for c in found.ceilings if c.quantity in ("memory", IN_CACHE)]
    if not points:
        return None
    ridges = [peak.value / slope.value for peak in peaks for slope in slopes]
    x = axes.decades(
        "FLOP per byte of memory traffic", [_intensity(p) for p in points] + ridges, units.number
    )
    heights = [p.achieved_flop_per_s for p in points] + [peak.value for peak in peaks]
    y = axes.decades("FLOP/s", _with_room(heights, len(peaks)), units.flops, suffix="FLOP/s")
    return PlotChart(
        id="roofline-chart",
        caption="Operators under the roofs, one mark per operator and shape",
        x=x,
        y=y,
        dots=_by_limit(points),
        lines=(*slope_lines(slopes, peaks, x, y), *peak_lines(peaks, slopes, x)),
        note=_roofline_note(found, len(drawable)),
    )


def _with_room(heights: Sequence[float], names: int) -> list[float]:
    """Return heights with one more, so high that the roofs' names find room above all roofs."""
    low, high = axes.around(heights)
    share = names * LABEL_ROOM / 100
    return [*heights, max(heights) * (high / low) ** share / 2]


def _intensity(point: Point) -> float:
    return point.executed_flop / point.bytes


def _roofline_note(found: RunRoofline, drawable: int) -> str:
    notes = ["Area: time per step; higher and further right is better."]
    if drawable > MOST_POINTS:
        notes.append(f"The {MOST_POINTS} of {drawable:,} with most time above their roof.")
    silent = sum(1 for p in found.points if p.executed_flop == 0)
    if silent:
        notes.append(f"{silent} that compute nothing (copies, fills) are in the table only.")
    cached = sum(1 for p in found.points if p.cache_resident)
    if cached:
        notes.append(f"{cached} above main memory's roof found their data in the cache.")
    if any(not is_measured(c.source) for c in found.ceilings):
        notes.append("Dashed roofs are published, solid ones measured.")
    return " ".join(notes)


def _by_limit(points: Sequence[Point]) -> tuple[Dots, ...]:
    longest = max(p.time_s for p in points)
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: -p.time_s):
        groups.setdefault(point.limit or "", []).append(point)
    order = (*_SHAPES, "")
    return tuple(
        Dots(
            name=palette.label(limit_key(limit)) if limit else "no ceiling known",
            key=limit_key(limit),
            shape=_SHAPES.get(limit, "circle"),
            dots=tuple(_dot(p, longest) for p in groups[limit]),
        )
        for limit in sorted(groups, key=lambda g: order.index(g) if g in order else len(order))
    )


def _dot(point: Point, longest: float) -> Dot:
    return Dot(
        x=_intensity(point),
        y=point.achieved_flop_per_s,
        radius=round(max(_SMALLEST, _LARGEST * sqrt(point.time_s / longest)), 1),
        hover=operator_hover(point),
    )


def operator_hover(point: Point) -> str:
    """Return what an operator's mark says: name, shapes, time, share of its roof, speeds."""
    again = " (recomputed)" if point.recomputed else ""
    held = "no ceiling known"
    if point.attained is not None:
        held = f"{units.percent(point.attained)} of its {point.limit or 'unknown'} roof"
    lines = [
        f"{name(point.name, 120)}{again}",
        f"{name(point.dims, 160)} {point.precision}".strip(),
        f"{units.seconds(point.time_s)} a step in {units.number(point.calls)} calls",
        held,
        f"{units.flops(point.achieved_flop_per_s)}, "
        f"{units.bandwidth(point.achieved_bytes_per_s / 1e9)}",
    ]
    lines += ["cache-resident: faster than main memory allows"] * point.cache_resident
    lines += [name(point.assumed, 160)] * bool(point.assumed)
    return "\n".join(line for line in lines if line)


def is_measured(source: str) -> bool:
    """Return whether a ceiling was measured; others are published."""
    return source.startswith("measured")


def slope_lines(
    slopes: Iterable[UsedCeiling], peaks: Sequence[UsedCeiling], x: Axis, y: Axis
) -> Iterable[Line]:
    """Yield bandwidth roofs, from the left or lower edge up to the highest peak."""
    top = max((peak.value for peak in peaks), default=y.high)
    for slope in slopes:
        start, end = max(x.low, y.low / slope.value), min(x.high, top / slope.value)
        if end > start:
            yield Line(
                name=f"{slope.quantity} {units.bandwidth(slope.value / 1e9)}",
                points=((start, start * slope.value), (end, end * slope.value)),
                dashed=not is_measured(slope.source),
            )


def peak_lines(
    peaks: Iterable[UsedCeiling], slopes: Sequence[UsedCeiling], x: Axis
) -> Iterable[Line]:
    """Yield peaks, from their ridge to the right edge."""
    fastest = max((slope.value for slope in slopes), default=0.0)
    for peak in peaks:
        start = max(x.low, peak.value / fastest) if fastest else x.low
        what = f"{peak.quantity} {peak.precision}".strip()
        yield Line(
            name=f"{what} {units.flops(peak.value)}",
            points=((min(start, x.high), peak.value), (x.high, peak.value)),
            dashed=not is_measured(peak.source),
        )


def bound_chart(found: RunRoofline) -> BoundChart | None:
    """Return measured time against its bound for the operators that lose most."""
    operators = [p for p in found.points if p.bound_s is not None][:BARS]
    longest = max((max(p.time_s, p.bound_s or 0.0) for p in operators), default=0.0)
    if longest <= 0:
        return None
    rows = tuple(_operator_bound(p, longest) for p in operators)
    used = {row.key for row in rows}
    shown = f" of {len(found.points)}" if len(found.points) > len(operators) else ""
    return BoundChart(
        id="bounds",
        caption="Operators: bound against measured, per step",
        rows=rows,
        legend=tuple(key for key in palette.LIMITS if key in used),
        longest=longest * 1e3,
        unit=" ms",
        note=f"The {len(rows)}{shown} operators with most time above their roof. Inner bar: the "
        "least time that the ceilings allow.",
    )


def uncosted_chart(found: RunRoofline) -> BoundChart | None:
    """Return the time of operators without a cost, for runs in which none has one."""
    entries = found.uncosted[:BARS]
    longest = max((entry.time_ns for entry in entries), default=0)
    if longest <= 0:
        return None
    everything = sum(entry.time_ns for entry in found.uncosted)
    unknown = 1.0 - (found.costed_share or 0.0)
    why = next((f"{show.sentence(name(c.why, 200))} " for c in found.cannot_tell), "")

    def bar(entry: Uncosted) -> Bound:
        share = units.percent(entry.time_ns / everything * unknown)
        return Bound(
            name=name(entry.name.removeprefix("aten::"), 120),
            key="limit-none",
            measured=round(entry.time_ns / longest * 100, 3),
            least=None,
            text=share,
            hover=f"{name(entry.name, 160)}\n{share} of the operators' time\n{entry.why}",
        )

    return BoundChart(
        id="uncosted-chart",
        caption="Operators by time, without bounds",
        rows=tuple(bar(entry) for entry in entries),
        legend=("limit-none",),
        longest=longest / everything * unknown * 100,
        unit=" %",
        across="share of the operators' time",
        note=f"{why}The {len(entries)} longest of {len(found.uncosted)}, in shares of all "
        "operators' time.",
    )


def _operator_bound(point: Point, longest: float) -> Bound:
    title = f"{point.name.removeprefix('aten::')} {point.dims}"
    assert point.bound_s is not None
    return Bound(
        name=name(title, 120),
        key=limit_key(point.limit),
        measured=round(point.time_s / longest * 100, 3),
        least=round(point.bound_s / longest * 100, 3),
        text=units.seconds(point.time_s),
        hover=f"{name(title, 160)}\nmeasured {units.seconds(point.time_s)}, "
        f"bound {units.seconds(point.bound_s)} ({point.limit or 'unknown'})",
    )

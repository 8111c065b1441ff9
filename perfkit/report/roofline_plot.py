"""A run's roofline as one standalone page: log-log roofline, network roof, bound against measured.

Everything is inline SVG: no script, no fonts, nothing is loaded. Hovering a mark shows its numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt

from perfkit import units
from perfkit.report.log_axes import LogAxes, around
from perfkit.roofline.place import Point
from perfkit.roofline.step import StepRoofline
from perfkit.roofline.summary import RunRoofline, UsedCeiling

KINDS = {
    "tensor": "#0b66a8",
    "vector": "#16a07a",
    "memory": "#e0701a",
    "launch": "#b5588e",
}
LARGEST_RADIUS = 22.0
SMALLEST_RADIUS = 3.0
MOST_POINTS = 400
BARS = 20
LABEL_ROOM, LABEL_HEIGHT = 170, 16

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6675; --line: #d8dde4; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecf1; --soft: #a2adba; --line: #38424e; --page: #14191f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } h2 { margin-top: 2.2rem; } p { color: var(--soft); }
.grid { stroke: var(--line); fill: none; }
.roof { stroke: var(--ink); fill: none; stroke-width: 2; }
.published { stroke-dasharray: 7 5; } text { fill: var(--soft); font-size: 12px; }
.name, .label { fill: var(--ink); font-size: 13px; } circle { fill-opacity: .55; }
.bound { fill: var(--ink); fill-opacity: .75; } .measured { fill-opacity: .45; }
"""


def page(found: RunRoofline) -> str:
    """The whole page."""
    device = escape(found.device_name or found.device_kind.upper())
    ranks = f"{len(found.analysed_ranks)} of {found.world_size} ranks"
    sections = [
        ("Roofline", _legend(found), roofline_svg(found)),
        ("Network roof", NETWORK_NOTE, network_svg(found)),
        ("Operators: bound against measured, per step", BARS_NOTE, bars_svg(found)),
        ("Steps: bound against measured", STEPS_NOTE, steps_svg(found)),
    ]
    body = "".join(f"<h2>{t}</h2><p>{note}</p>{svg}" for t, note, svg in sections if svg)
    missing = "".join(
        f"<li>{escape(entry.claim)}: {escape(entry.why)}. {escape(entry.remedy)}</li>"
        for entry in found.cannot_tell
    )
    told = f"<h2>Cannot tell</h2><ul>{missing}</ul>" if missing else ""
    found_list = "".join(f"<li>{escape(text)}</li>" for text in found.findings)
    told += f"<h2>Findings</h2><ul>{found_list}</ul>" if found_list else ""
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Roofline, {device}</title><style>{STYLE}</style>"
        f"<h1>Roofline of {ranks} on {device}</h1>{body}{told}</html>\n"
    )


NETWORK_NOTE = (
    "One mark per rank: FLOP per byte that the rank sends, against what it computed per second of "
    "its step. Right of the ridge computing takes longer than the network."
)
BARS_NOTE = (
    "Dark: the least time that the ceilings allow; coloured: measured. Operators with most time "
    "above their roof first; copies and fills, which compute nothing, appear only here."
)


STEPS_NOTE = (
    "Dark: T_lo, the longest of computing, memory and network time at the ceilings, everything "
    "overlapped; coloured: the mean step of each rank."
)


def _legend(found: RunRoofline) -> str:
    shown = sum(1 for point in found.points if _is_drawn(point))
    colours = ", ".join(
        f'<span style="color:{colour}">&#9679;</span> {kind}-bound'
        for kind, colour in KINDS.items()
    )
    hidden = sum(1 for point in found.points if point.executed_flop == 0)
    return (
        f"{shown} operators by shape, area by time per step: {colours}. {hidden} that compute "
        "nothing are not drawn here. Dashed roofs are published, solid ones measured."
    )


def _is_drawn(point: Point) -> bool:
    return point.executed_flop > 0 and point.bytes > 0 and point.time_s > 0


@dataclass(frozen=True, slots=True)
class _Roof:
    label: str
    value: float
    published: bool


def _roofs(found: RunRoofline, quantities: Sequence[str]) -> list[_Roof]:
    return [
        _Roof(f"{entry.quantity} {entry.precision}".strip(), entry.value, _is_published(entry))
        for entry in found.ceilings
        if entry.quantity in quantities
    ]


def _is_published(entry: UsedCeiling) -> bool:
    return not entry.source.startswith("measured")


def roofline_svg(found: RunRoofline) -> str:
    """The log-log roofline: bandwidth slopes, peaks, one circle per operator and shape."""
    points = [point for point in found.points if _is_drawn(point)][:MOST_POINTS]
    peaks = _roofs(found, ("matrix", "vector"))
    memory = _roofs(found, ("memory",))
    if not points and not peaks:
        return ""
    ridges = [peak.value / slope.value for peak in peaks for slope in memory]
    x = around([point.intensity or 0.0 for point in points] + ridges)
    y = around([point.achieved_flop_per_s for point in points] + [peak.value for peak in peaks])
    axes = LogAxes(x_low=x[0], x_high=x[1], y_low=y[0], y_high=y[1])
    marks = [*_frame(axes, "FLOP per byte of memory traffic"), *_slopes(axes, memory, peaks)]
    marks += _flat(axes, peaks, memory)
    longest = max((point.time_s for point in points), default=1.0)
    ordered = sorted(points, key=lambda point: -point.time_s)
    marks += [_circle(axes, point, longest) for point in ordered]
    return _svg(axes.width, axes.height, marks)


def _frame(axes: LogAxes, x_name: str) -> Iterator[str]:
    return axes.frame(x_name, "FLOP/s", units.number, units.flops)


def _slopes(axes: LogAxes, slopes: Iterable[_Roof], peaks: Sequence[_Roof]) -> Iterator[str]:
    """Bandwidth roofs, from the left edge up to the highest peak."""
    top = max((peak.value for peak in peaks), default=axes.y_high)
    for slope in slopes:
        start = max(axes.x_low, axes.y_low / slope.value)
        end = min(axes.x_high, top / slope.value)
        if end <= start:
            continue
        y0, y1 = axes.y(start * slope.value), axes.y(end * slope.value)
        css = "roof published" if slope.published else "roof"
        yield f'<path class="{css}" d="M{axes.x(start)} {y0}L{axes.x(end)} {y1}"/>'
        label = f"{slope.label} {units.bandwidth(slope.value / 1e9)}"
        yield _label(axes.x(start) + 12, min(y0 + 18, axes.height - axes.bottom - 6), label)


def _flat(axes: LogAxes, peaks: Sequence[_Roof], slopes: Sequence[_Roof]) -> Iterator[str]:
    """Peaks, from their ridge to the right edge."""
    fastest = max((slope.value for slope in slopes), default=0.0)
    right, above = axes.width - axes.right - 4, -100.0
    for peak in sorted(peaks, key=lambda one: -one.value):
        start = max(axes.x_low, peak.value / fastest) if fastest else axes.x_low
        css = "roof published" if peak.published else "roof"
        height = axes.y(peak.value)
        yield f'<path class="{css}" d="M{axes.x(start)} {height}H{axes.width - axes.right}"/>'
        text = f"{peak.label} {units.flops(peak.value)}"
        shift = LABEL_ROOM if height - above < LABEL_HEIGHT else 0  # beside the one above it
        above = height
        yield _label(right - shift, height - 6, text, anchor="end")


def _circle(axes: LogAxes, point: Point, longest: float) -> str:
    radius = max(SMALLEST_RADIUS, LARGEST_RADIUS * sqrt(point.time_s / longest))
    x, y = axes.x(point.intensity or axes.x_low), axes.y(point.achieved_flop_per_s)
    colour = KINDS.get(point.limit or "", "#7a8594")
    return (
        f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{colour}">'
        f"<title>{escape(_hover(point))}</title></circle>"
    )


def _hover(point: Point) -> str:
    again = " (recomputed)" if point.recomputed else ""
    lines = [
        f"{point.name}{again} {point.dims} {point.precision}",
        f"{units.seconds(point.time_s)} a step, {units.number(point.calls)} calls",
        f"{units.percent(point.attained)} of its {point.limit or 'unknown'} roof",
        f"{units.flops(point.achieved_flop_per_s)}, "
        f"{units.bandwidth(point.achieved_bytes_per_s / 1e9)}",
    ]
    if point.cache_resident:
        lines.append("cache-resident: faster than main memory allows")
    if point.assumed:
        lines.append(point.assumed)
    return "\n".join(lines)


def network_svg(found: RunRoofline) -> str:
    """The network roof: FLOP per bus byte against FLOP per second of step, all ranks and levels."""
    steps = [step for step in found.ranks if step.levels and step.executed_flop and step.step_s]
    if not steps:
        return ""
    peak = max((step.peak_flop_per_s or 0.0 for step in steps), default=0.0)
    slopes = _levels(steps)
    achieved = [step.executed_flop / step.step_s for step in steps]
    used = [level.intensity or 0.0 for step in steps for level in step.levels]
    ridges = [peak / slope.value for slope in slopes]
    x, y = around(used + ridges), around([*achieved, peak])
    axes = LogAxes(x_low=x[0], x_high=x[1], y_low=y[0], y_high=y[1], height=400)
    peaks = [_Roof("peak", peak, published=_all_published(found))] if peak else []
    marks = [*_frame(axes, "FLOP per byte sent by a rank"), *_slopes(axes, slopes, peaks)]
    marks += _flat(axes, peaks, slopes)
    for step, speed in zip(steps, achieved, strict=True):
        marks += [_rank(axes, step, index, speed) for index in range(len(step.levels))]
    return _svg(axes.width, axes.height, marks)


def _all_published(found: RunRoofline) -> bool:
    return all(_is_published(entry) for entry in found.ceilings if entry.quantity == "matrix")


def _levels(steps: Iterable[StepRoofline]) -> list[_Roof]:
    found: dict[str, _Roof] = {}
    for step in steps:
        for level in step.levels:
            if level.bandwidth_bytes_per_s:
                published = not level.source.startswith("measured")
                found[level.name] = _Roof(level.name, level.bandwidth_bytes_per_s, published)
    return list(found.values())


def _rank(axes: LogAxes, step: StepRoofline, index: int, speed: float) -> str:
    level = step.levels[index]
    if not level.intensity:
        return ""
    text = (
        f"rank {step.rank}, {level.name}\n{units.number(level.intensity)} FLOP per byte sent\n"
        f"{units.size(level.bus_bytes)} sent per step\n{units.flops(speed)} over the step"
    )
    return (
        f'<circle cx="{axes.x(level.intensity)}" cy="{axes.y(speed)}" r="7" '
        f'fill="{KINDS["tensor"] if index else KINDS["memory"]}">'
        f"<title>{escape(text)}</title></circle>"
    )


def bars_svg(found: RunRoofline) -> str:
    """Bound against measured time per step, for the operators that lose most."""
    rows = [
        (f"{p.name.removeprefix('aten::')} {p.dims}", p.bound_s, p.time_s, p.limit or "")
        for p in found.points
        if p.bound_s is not None
    ][:BARS]
    return _bars(rows)


def steps_svg(found: RunRoofline) -> str:
    """T_lo against the mean step, rank by rank."""
    steps = [step for step in found.ranks if step.ceilings.lowest_s][:BARS]
    return _bars([(f"rank {s.rank}", s.ceilings.lowest_s, s.step_s, "step") for s in steps])


def _bars(rows: Sequence[tuple[str, float | None, float, str]]) -> str:
    if not rows:
        return ""
    longest = max(measured for _, _, measured, _ in rows)
    marks: list[str] = []
    for index, row in enumerate(rows):
        marks += _bar(24 * index + 6, *row, longest=longest)
    return _svg(900, 24 * len(rows) + 12, marks)


def _bar(
    top: int, name: str, bound_s: float | None, measured_s: float, kind: str, *, longest: float
) -> Iterator[str]:
    left, room = 390, 420
    shown = name if len(name) <= 52 else name[:51] + "…"
    yield _label(left - 8, top + 14, shown, anchor="end")
    colour = KINDS.get(kind, "#7a8594")
    full, least = measured_s / longest * room, (bound_s or 0.0) / longest * room
    hover = f"{name}\nmeasured {units.seconds(measured_s)}, bound {units.seconds(bound_s)}"
    yield (
        f'<rect class="measured" x="{left}" y="{top}" width="{full:.1f}" height="18" '
        f'fill="{colour}"><title>{escape(hover)}</title></rect>'
    )
    yield f'<rect class="bound" x="{left}" y="{top + 6}" width="{least:.1f}" height="6"/>'
    yield _label(left + max(full, least) + 6, top + 14, units.seconds(measured_s))


def _label(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(width: int, height: int, marks: Iterable[str]) -> str:
    inside = "".join(marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"{inside}</svg>"
    )

"""Charts as one SVG file that needs nothing else: no page, no script, no style sheet, no font.

Panels stand below each other; hovering a mark in a browser shows what it is. ElementTree writes
the markup, so that no name from a capture can be anything but text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from perfkit.report import axes, palette
from perfkit.report.geometry import line_labels
from perfkit.report.model import (
    Bar,
    BarChart,
    Bound,
    BoundChart,
    Dot,
    Dots,
    Line,
    PlotChart,
)

Chart = PlotChart | BoundChart | BarChart

WIDTH = 960.0
_LEFT, _RIGHT, _HEIGHT = 110.0, 30.0, 380.0
_ROW, _NAME = 20.0, 330.0
_STACK, _LABEL, _LEGEND_ROW = 26.0, 170.0, 5
_INK, _FAINT, _RULE = "#10141a", "#5a6472", "#e3e6eb"


def figure(title: str, charts: Sequence[Chart]) -> str:
    """Return an SVG document with the title and a panel for each chart."""
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif"})
    background = SubElement(root, "rect", {"fill": "#ffffff", "width": "100%", "height": "100%"})
    _text(root, 20, 32, title, _TITLE)
    top = 60.0
    for chart in charts:
        group = SubElement(root, "g", {"transform": f"translate(0 {top:.0f})"})
        height = _panel(group, chart)
        top += height + 30
    for element in (root, background):
        element.set("width", f"{WIDTH:.0f}")
        element.set("height", f"{top:.0f}")
    root.set("viewBox", f"0 0 {WIDTH:.0f} {top:.0f}")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _panel(parent: Element, chart: Chart) -> float:
    if isinstance(chart, PlotChart):
        return _plot(parent, chart)
    return _bounds(parent, chart) if isinstance(chart, BoundChart) else _stacks(parent, chart)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    """How a text is set."""

    size: float = 11
    anchor: str = "start"
    weight: str = "normal"
    fill: str = _INK


_PLAIN = _Type()
_TITLE, _CAPTION = _Type(size=18, weight="bold"), _Type(size=15, weight="bold")
_NOTE = _Type(fill=_FAINT)
_TO_THE_LEFT = _Type(anchor="end")
_HALO = {"stroke": "#ffffff", "stroke-width": "4", "paint-order": "stroke"}
_ACROSS, _UPRIGHT = _Type(anchor="middle", fill=_FAINT), _Type(anchor="end", fill=_FAINT)
_AXIS = _Type(size=12, anchor="middle")


def _text(parent: Element, x: float, y: float, text: str, how: _Type = _PLAIN) -> Element:
    found = SubElement(
        parent,
        "text",
        {
            "x": f"{x:.1f}",
            "y": f"{y:.1f}",
            "font-size": f"{how.size:g}",
            "text-anchor": how.anchor,
            "font-weight": how.weight,
            "fill": how.fill,
        },
    )
    found.text = text
    return found


def _head(parent: Element, chart: Chart) -> float:
    """Write caption and note; return the height that they take."""
    _text(parent, 20, 14, chart.caption, _CAPTION)
    y = 14.0
    for line in _wrapped(chart.note):
        y += 16
        _text(parent, 20, y, line, _NOTE)
    return y + 14


def _wrapped(text: str, most: int = 150) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _legend(parent: Element, y: float, entries: Sequence[tuple[str, str, str]]) -> float:
    """Write shapes with their names in one row; return the height that it takes."""
    x = 26.0
    for shape, colour, label in entries:
        _mark(parent, shape, x, y, 5, colour)
        _text(parent, x + 10, y + 4, label)
        x += 34 + 6.2 * len(label)
    return 18.0 if entries else 0.0


def _plot(parent: Element, chart: PlotChart) -> float:
    y = _head(parent, chart)
    entries = [(d.shape, palette.look(d.key).light, d.name) for d in chart.dots]
    y += _legend(parent, y, [*entries, *_lines_to_name(chart)])
    frame = SubElement(parent, "g", {"transform": f"translate({_LEFT} {y:.1f})"})
    _grid(frame, chart)
    for line in chart.lines:
        _line(frame, chart, line)
    for group in chart.dots:
        for dot in group.dots:
            _dot(frame, chart, group, dot)
    for label in line_labels(chart):
        x, at = _across(label.left), _up(label.bottom)
        aside, lift = -4 if label.at_end else 6, -5 if label.above else 16
        words = _text(
            frame, x + aside, at + lift, label.text, _TO_THE_LEFT if label.at_end else _PLAIN
        )
        for key, value in _HALO.items():
            words.set(key, value)
    return y + _HEIGHT + 44


def _lines_to_name(chart: PlotChart) -> list[tuple[str, str, str]]:
    """Return legend entries of lines that carry no name where they lie."""
    return [
        (
            "dashes" if line.dashed else "line",
            palette.look(line.key).light if line.key else _INK,
            line.name,
        )
        for line in chart.lines
        if line.name and not line.labelled
    ]


def _across(percent: float) -> float:
    return percent / 100 * (WIDTH - _LEFT - _RIGHT)


def _up(percent: float) -> float:
    return _HEIGHT * (1 - percent / 100)


def _grid(frame: Element, chart: PlotChart) -> None:
    width = WIDTH - _LEFT - _RIGHT
    for tick in chart.x.ticks:
        x = _across(tick.at)
        _stroke(frame, f"M{x:.1f} 0V{_HEIGHT:.1f}", _RULE, 1)
        _text(frame, x, _HEIGHT + 16, tick.text, _ACROSS)
    for tick in chart.y.ticks:
        y = _up(tick.at)
        _stroke(frame, f"M0 {y:.1f}H{width:.1f}", _RULE, 1)
        _text(frame, -6, y + 4, tick.text, _UPRIGHT)
    _text(frame, width / 2, _HEIGHT + 34, chart.x.title, _AXIS)
    turned = _text(frame, 0, 0, chart.y.title, _AXIS)
    turned.set("transform", f"translate({-_LEFT + 18:.0f} {_HEIGHT / 2:.0f}) rotate(-90)")


def _stroke(
    parent: Element, path: str, colour: str, width: float, *, dashed: bool = False
) -> Element:
    found = SubElement(
        parent,
        "path",
        {"d": path, "stroke": colour, "stroke-width": f"{width:g}", "fill": "none"},
    )
    if dashed:
        found.set("stroke-dasharray", "6 4")
    return found


def _line(frame: Element, chart: PlotChart, line: Line) -> None:
    points = (
        f"{_across(axes.place(chart.x, x)):.1f} {_up(axes.place(chart.y, y)):.1f}"
        for x, y in line.points
    )
    colour = palette.look(line.key).light if line.key else _INK
    path = _stroke(frame, "M" + "L".join(points), colour, 1.5, dashed=line.dashed)
    SubElement(path, "title").text = line.name


def _dot(frame: Element, chart: PlotChart, group: Dots, dot: Dot) -> None:
    x, y = _across(axes.place(chart.x, dot.x)), _up(axes.place(chart.y, dot.y))
    mark = _mark(frame, group.shape, x, y, dot.radius, palette.look(group.key).light)
    SubElement(mark, "title").text = dot.hover


def _mark(parent: Element, shape: str, x: float, y: float, radius: float, colour: str) -> Element:
    """Draw a circle, square, diamond or triangle around a point, or a line through it."""
    look = {"fill": colour, "fill-opacity": "0.75", "stroke": _INK, "stroke-width": "0.5"}
    if shape in ("line", "dashes"):
        across = f"M{x - 10:.1f} {y:.1f}H{x + 6:.1f}"
        return _stroke(parent, across, colour, 1.5, dashed=shape == "dashes")
    if shape == "circle":
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"}
        return SubElement(parent, "circle", place | look)
    r = radius
    corners = {
        "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
        "diamond": ((0, -r), (r, 0), (0, r), (-r, 0)),
        "triangle": ((0, -r), (r, r), (-r, r)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return SubElement(parent, "polygon", {"points": points} | look)


def _bounds(parent: Element, chart: BoundChart) -> float:
    y = _head(parent, chart)
    keys = [("square", palette.look(key).light, palette.label(key)) for key in chart.legend]
    least = ("square", _INK, "least that the ceilings allow")
    bounded = any(row.least is not None for row in chart.rows)
    y += _legend(parent, y, [*keys, least] if bounded else keys)
    for row in chart.rows:
        _bar(parent, y, row)
        y += _ROW
    return y


def _bar(parent: Element, y: float, row: Bound) -> None:
    """Draw a measured time with its bound inside."""
    span = WIDTH - _NAME - 110
    room = 46
    shown = row.name if len(row.name) <= room else row.name[: room - 3] + "..."
    group = SubElement(parent, "g")
    SubElement(group, "title").text = row.hover
    _text(group, _NAME - 8, y + 13, shown, _TO_THE_LEFT)
    _box(group, y + 3, row.measured / 100 * span, 14, palette.look(row.key).light)
    if row.least is not None:
        _box(group, y + 8, row.least / 100 * span, 4, _INK)
    longest = max(row.measured, row.least or 0.0) / 100 * span
    _text(group, _NAME + longest + 6, y + 14, row.text)


def _stacks(parent: Element, chart: BarChart) -> float:
    """Draw stacked bars; the key "gap" stands for nothing."""
    y = _head(parent, chart)
    keys = [key for key in chart.legend if key != "gap"]
    for row in range(0, len(keys), _LEGEND_ROW):
        some = keys[row : row + _LEGEND_ROW]
        entries = [("square", palette.look(key).light, palette.label(key)) for key in some]
        y += _legend(parent, y, entries)
    for bar in chart.bars:
        _stack(parent, y, bar)
        y += _STACK
    return y


def _stack(parent: Element, y: float, bar: Bar) -> None:
    span, x = WIDTH - _LABEL - 130, _LABEL
    _text(parent, x - 8, y + 15, bar.label, _TO_THE_LEFT)
    for part in bar.segments:
        width = part.width / 100 * span
        if part.key != "gap":
            size = {"x": f"{x:.1f}", "y": f"{y + 2:.1f}", "width": f"{width:.1f}", "height": "18"}
            colour = palette.look(part.key).light
            box = SubElement(parent, "rect", size | {"fill": colour, "stroke": "#ffffff"})
            SubElement(box, "title").text = part.hover
        x += width
    _text(parent, x + 6, y + 15, bar.total)


def _box(parent: Element, y: float, width: float, height: float, colour: str) -> None:
    size = {"x": f"{_NAME:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}"}
    SubElement(parent, "rect", size | {"height": f"{height:g}", "fill": colour})

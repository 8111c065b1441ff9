"""Places and shapes of the charts: numbers in, SVG path data and percentages out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfkit import units
from perfkit.report import show
from perfkit.report.axes import place
from perfkit.report.model import Lane, Line, Mark, PlotChart, Tick, TimelineChart

WIDTH = 1000
"""Units of a timeline lane's view box; the static drawing merges what is closer than one."""

HEIGHT = 16


def stacked(parts: Sequence[tuple[str, float]]) -> Iterator[tuple[str, float, float]]:
    """Yield key, height and bottom of parts that stand on each other."""
    bottom = 0.0
    for key, height in parts:
        yield key, height, bottom
        bottom += height


def axis(span_us: float) -> list[Tick]:
    """Return the labels of a time axis from 0 to `span_us`."""
    if span_us <= 0:
        return []
    return [
        Tick(at=round(v / span_us * 100, 3), text=units.microseconds(v))
        for v in show.ticks(span_us, 6)
    ]


def lane_paths(lane: Lane, chart: TimelineChart) -> list[tuple[str, str]]:
    """Return one SVG path per class for the marks of `lane`, the whole step WIDTH wide."""
    if chart.span_us <= 0:
        return []
    scale = WIDTH / chart.span_us
    by_key: dict[int, list[Mark]] = {}
    for mark in lane.marks:
        by_key.setdefault(mark.key, []).append(mark)
    return [(chart.keys[key], _path(marks, scale)) for key, marks in sorted(by_key.items())]


def window_edges(lane: Lane, chart: TimelineChart) -> str:
    """Return the path of the step's begin and end on this rank, "" where they are not known."""
    if lane.window is None or chart.span_us <= 0:
        return ""
    return "".join(f"M{at * WIDTH / chart.span_us:.1f} 0v{HEIGHT}" for at in lane.window)


def _path(marks: list[Mark], scale: float) -> str:
    """Return boxes around the marks; marks less than half a unit apart share a box."""
    boxes: list[list[float]] = []
    for mark in sorted(marks, key=lambda m: m.start):
        left, right = mark.start * scale, (mark.start + mark.duration) * scale
        if boxes and left - boxes[-1][1] < 0.5:
            boxes[-1][1] = max(boxes[-1][1], right)
        else:
            boxes.append([left, right])
    return "".join(
        f"M{left:.1f} 0h{max(right - left, 0.5):.1f}v{HEIGHT}H{left:.1f}z" for left, right in boxes
    )


LABEL_ROOM = 5.2
"""Percent of a plot's height that a line's name takes."""


@dataclass(frozen=True, slots=True)
class LineLabel:
    """A line's name: the data point it stands at, its place in percent, and its row above that.

    at_end: it stands at the line's right end and reads to the left. above: and over it.
    """

    text: str
    x: float
    y: float
    left: float
    bottom: float
    at_end: bool
    above: bool
    row: int  # 0 at the point itself; names of lines that lie close together are stacked


def line_path(line: Line, chart: PlotChart) -> str:
    """Return the SVG path of a line in a box of 100 by 100."""
    return "M" + "L".join(
        f"{place(chart.x, x):.2f} {100 - place(chart.y, y):.2f}" for x, y in line.points
    )


def line_labels(chart: PlotChart) -> list[LineLabel]:
    """Return the names of lines that carry one: above the right end of flat lines, else below.

    A rising line passes above what is written below its left end, a falling one above what is
    written below its right end. Flat lines that lie too close for names in between have them
    stacked above the highest of them, in the lines' order.
    """
    named = [line for line in chart.lines if line.labelled]
    flat = [line for line in named if _is_flat(line)]
    flat.sort(key=lambda line: line.points[-1][1])
    labels = [label for group in _close(flat, chart) for label in _stack(group, chart)]
    for line in named:
        if not _is_flat(line):
            falls = line.points[-1][1] < line.points[0][1]
            x, y = line.points[-1 if falls else 0]
            labels.append(
                LineLabel(
                    text=line.name,
                    x=x,
                    y=y,
                    left=place(chart.x, x),
                    bottom=round(place(chart.y, y), 2),
                    at_end=falls,
                    above=False,
                    row=0,
                )
            )
    return labels


def _is_flat(line: Line) -> bool:
    return line.points[0][1] == line.points[-1][1]


def _close(flat: Sequence[Line], chart: PlotChart) -> list[list[Line]]:
    """Return groups of flat lines, lowest first, between which no name has room."""
    groups: list[list[Line]] = []
    below = -100.0
    for line in flat:
        at = place(chart.y, line.points[-1][1])
        if at - below >= 1.7 * LABEL_ROOM:
            groups.append([])
        groups[-1].append(line)
        below = at
    return groups


def _stack(group: Sequence[Line], chart: PlotChart) -> list[LineLabel]:
    top = group[-1].points[-1][1]
    at = place(chart.y, top)
    return [
        LineLabel(
            text=line.name,
            x=line.points[-1][0],
            y=top,
            left=place(chart.x, line.points[-1][0]),
            bottom=round(at + row * LABEL_ROOM, 2),
            at_end=True,
            above=True,
            row=row,
        )
        for row, line in enumerate(group)
    ]

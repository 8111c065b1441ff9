"""Places and shapes of the charts: numbers in, SVG path data and percentages out."""

from collections.abc import Iterator, Sequence

from perfkit import units
from perfkit.report import show
from perfkit.report.model import Lane, Mark, Tick, TimelineChart

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

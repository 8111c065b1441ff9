"""Axes of plots: whole decades or round values around the data, labels, and places in percent."""

import math
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from perfkit import units
from perfkit.report import show
from perfkit.report.model import Axis, Tick

Label = Callable[[float | None], str]

_MOST_TICKS = 8
ROOM = 1.1


def place(axis: Axis, value: float) -> float:
    """Return where `value` lies on the axis, in percent from its low end."""
    if axis.log:
        span = math.log10(axis.high / axis.low)
        return round(math.log10(value / axis.low) / span * 100, 3)
    return round((value - axis.low) / (axis.high - axis.low) * 100, 3)


def decades(title: str, values: Iterable[float], label: Label, *, suffix: str = "") -> Axis:
    """Return a logarithmic axis of whole decades that holds all positive values with some room."""
    low, high = around(values)
    first, last = round(math.log10(low)), round(math.log10(high))
    stride = max(1, -(-(last - first) // _MOST_TICKS))
    at = [10.0**exponent for exponent in range(first, last + 1, stride)]
    axis = Axis(title=title, low=low, high=high, ticks=(), log=True, suffix=suffix)
    return replace(axis, ticks=_ticks(axis, at, label))


def near(title: str, values: Iterable[float], label: Label, *, suffix: str = "") -> Axis:
    """Return a logarithmic axis from 1, 2 or 5 times a power of ten to another, near the values.

    For values that keep within a decade or two, which whole decades would press together.
    """
    positive = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low, high = min(positive) / ROOM, max(positive) * ROOM
    span = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [step * 10.0**exponent for exponent in span for step in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = min(i for i, step in enumerate(steps) if step >= high)
    at = steps[first : last + 1]
    if len(at) > _MOST_TICKS:
        return decades(title, positive, label, suffix=suffix)
    axis = Axis(title=title, low=at[0], high=at[-1], ticks=(), log=True, suffix=suffix)
    return replace(axis, ticks=_ticks(axis, at, label), values=tuple(at))


def sizes(title: str, values: Iterable[float]) -> Axis:
    """Return a logarithmic axis of bytes, labelled at powers of two."""
    positive = [value for value in values if value > 0] or [1.0]
    first = math.floor(math.log2(min(positive)) - 0.5)
    last = max(math.ceil(math.log2(max(positive)) + 1), first + 2)
    stride = max(1, -(-(last - first) // _MOST_TICKS))
    at = [2.0**exponent for exponent in range(first, last + 1, stride)]
    axis = Axis(title=title, low=2.0**first, high=2.0**last, ticks=(), log=True)
    return replace(axis, ticks=_ticks(axis, at, units.size), values=tuple(at))


def linear(title: str, top: float, label: Label) -> Axis:
    """Return an axis from 0 to a little above `top`, labelled at round values."""
    axis = Axis(title=title, low=0.0, high=max(top * 1.06, 1e-9), ticks=())
    at = show.ticks(axis.high, 5)
    return replace(axis, ticks=_ticks(axis, at, label), values=tuple(at))


def linear_sizes(title: str, top: float) -> Axis:
    """Return an axis of bytes from 0 to a little above `top`, labelled at round binary sizes."""
    axis = Axis(title=title, low=0.0, high=max(top * 1.06, 1.0), ticks=())
    unit = 1024.0 ** math.floor(max(math.log(axis.high, 1024), 0.0))
    at = [value * unit for value in show.ticks(axis.high / unit, 5)]
    return replace(axis, ticks=_ticks(axis, at, units.size), values=tuple(at))


def around(values: Iterable[float], *, room: float = 2.0) -> tuple[float, float]:
    """Return whole decades that hold all positive values with some room; at least one decade."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return 1.0, 10.0
    low = math.floor(math.log10(min(positive) / room))
    high = math.ceil(math.log10(max(positive) * room))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _ticks(axis: Axis, at: Iterable[float], label: Label) -> tuple[Tick, ...]:
    return tuple(Tick(at=place(axis, value), text=_trimmed(label(value))) for value in at)


def _trimmed(text: str) -> str:
    """Return a label without the zeros behind a round number: `1.00 TFLOP/s` as `1 TFLOP/s`."""
    figures, space, unit = text.partition(" ")
    if "." in figures:
        figures = figures.rstrip("0").rstrip(".")
    return f"{figures}{space}{unit}"

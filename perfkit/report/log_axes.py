"""A chart with two logarithmic axes as SVG: grid, labels, positions of data."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

Label = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAxes:
    """Ranges in data units (positive) and the drawing area in SVG units."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int = 900
    height: int = 520
    left: int = 112
    right: int = 20
    top: int = 20
    bottom: int = 56

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        share = math.log10(value / self.x_low) / math.log10(self.x_high / self.x_low)
        return round(self.left + share * (self.width - self.left - self.right), 2)

    def y(self, value: float) -> float:
        """Vertical place of a value; larger values lie higher."""
        share = math.log10(value / self.y_low) / math.log10(self.y_high / self.y_low)
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 2)

    def frame(self, x_name: str, y_name: str, x_label: Label, y_label: Label) -> Iterator[str]:
        """Grid lines at powers of ten with their labels, and the names of the axes."""
        floor, right = self.height - self.bottom, self.width - self.right
        for value in decades(self.x_low, self.x_high):
            at = self.x(value)
            yield f'<path class="grid" d="M{at} {self.top}V{floor}"/>'
            yield _text(at, floor + 18, x_label(value), anchor="middle")
        for value in decades(self.y_low, self.y_high):
            at = self.y(value)
            yield f'<path class="grid" d="M{self.left} {at}H{right}"/>'
            yield _text(self.left - 8, at + 4, y_label(value), anchor="end")
        yield _text((self.left + right) / 2, self.height - 12, x_name, anchor="middle", kind="name")
        middle = (self.top + floor) / 2
        yield (
            f'<text class="name" text-anchor="middle" transform="translate(18 {middle:g}) '
            f'rotate(-90)">{escape(y_name)}</text>'
        )


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, thinned to at most nine."""
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    stride = max(1, math.ceil(len(exponents) / 9))
    return [10.0**exponent for exponent in exponents[::stride]]


def around(values: list[float], *, below: float = 2.0, above: float = 2.0) -> tuple[float, float]:
    """Whole decades that hold all positive values with some room; at least one decade."""
    positive = [value for value in values if value > 0]
    if not positive:
        return 1.0, 10.0
    low = math.floor(math.log10(min(positive) / below))
    high = math.ceil(math.log10(max(positive) * above))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _text(x: float, y: float, text: str, *, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'

"""How far predictions of a kind have been off so far, from pairs of predicted and measured steps.

The expected error of a kind is the largest one seen below ten pairs, then the 90th percentile;
fewer than LEAST_PAIRS say too little. A combination is as uncertain as its parts together.
"""

from collections.abc import Iterable, Sequence
from math import ceil

import msgspec

LEAST_PAIRS = 2
TEN = 10
UNKNOWN_ERROR = 0.10
"""Relative error of a kind that was not compared with measurements (published: 3 to 14 %)."""
FLOOR = 0.01
"""No prediction is said to be better than what two runs of the same thing differ by."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction and what was measured after the change was made; one line of the file."""

    options: tuple[str, ...]  # of `perfkit whatif`, such as "--network x2"
    before_ms: float
    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted_ms / self.measured_ms - 1


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The error to expect of one prediction."""

    error: float  # relative, two-sided
    pairs: int  # compared with measurements, over the kinds asked for
    median: float | None  # of their errors' sizes
    unknown: tuple[str, ...]  # kinds without enough pairs


def expected(options: Iterable[str], pairs: Sequence[Pair]) -> Expected:
    """Return the error to expect of a prediction with these options."""
    total, count, sizes, unknown = 0.0, 0, [], []
    kinds = tuple(dict.fromkeys(kind_of(option) for option in options))
    for kind in kinds:
        own = sorted(abs(p.error) for p in pairs if [kind_of(o) for o in p.options] == [kind])
        count += len(own)
        sizes += own
        if len(own) < LEAST_PAIRS:
            unknown.append(kind)
            total += UNKNOWN_ERROR
        else:
            total += own[-1] if len(own) < TEN else own[ceil(0.9 * len(own)) - 1]
    sizes.sort()
    return Expected(
        error=max(FLOOR, total) if kinds else UNKNOWN_ERROR,
        pairs=count,
        median=(sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2 if sizes else None,
        unknown=tuple(unknown),
    )


def kind_of(option: str) -> str:
    """Return the kind of change that an option asks for: its name without the value."""
    return option.split(maxsplit=1)[0]


def decode(lines: bytes) -> tuple[Pair, ...]:
    """Read a calibration file: one JSON pair a line. Raises msgspec.MsgspecError, ValueError."""
    pairs = tuple(msgspec.json.decode(line, type=Pair) for line in lines.splitlines() if line)
    for pair in pairs:
        if not min(pair.predicted_ms, pair.measured_ms) > 0:
            raise ValueError("a step must take longer than 0 ms")
    return pairs


def encode(pair: Pair) -> bytes:
    """Return the line of a pair."""
    return msgspec.json.encode(pair) + b"\n"

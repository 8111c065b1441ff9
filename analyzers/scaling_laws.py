"""Speed-up, efficiency and the classical laws, from times at several numbers of ranks.

Strong scaling keeps the global batch, weak scaling the batch per rank. Sources: Amdahl 1967,
Gustafson 1988, Karp & Flatt 1990, Quinn 2003 section 7.5. Caution (models.md 4.1): a ring
all-reduce bound by bandwidth, T = C/p + K (1 - 1/p), gives the *same* constant Karp-Flatt value
K/C as serial code. These laws describe a curve; they never name a cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from perfkit.analyzers.refusal import Refusal


def amdahl_speed_up(serial_share: float, ranks: float) -> float:
    """Return 1 / (s + (1-s)/p): fixed problem, s of the one-rank time is serial."""
    return 1 / (serial_share + (1 - serial_share) / ranks)


def gustafson_speed_up(serial_share: float, ranks: float) -> float:
    """Return p - s' (p-1): problem grows with p, s' of the *parallel* time is serial."""
    return ranks - serial_share * (ranks - 1)


def gustafson_serial_share(speed_up: float, ranks: float) -> float:
    """Return s' = (p - S) / (p - 1), of a scaled speed-up."""
    return (ranks - speed_up) / (ranks - 1)


def amdahl_from_gustafson(serial_share: float, ranks: float) -> float:
    """Return the serial share of the one-rank time for a serial share of the parallel time."""
    return serial_share / (serial_share + (1 - serial_share) * ranks)


def karp_flatt(speed_up: float, ranks: float) -> float:
    """Return the experimentally determined serial fraction (1/S - 1/p) / (1 - 1/p).

    For a fixed problem only. Rising with p: overhead grows with p; constant: serial code *or* a
    bandwidth-bound collective; negative: superlinear speed-up.
    """
    if ranks <= 1:
        raise ValueError("the serial fraction needs more than one rank")
    return (1 / speed_up - 1 / ranks) / (1 - 1 / ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """One point of a scaling series against its smallest measured number of ranks."""

    ranks: int
    seconds: float
    speed_up: float  # strong: T0/Tp; weak: scaled, p/p0 * T0/Tp
    efficiency: float
    karp_flatt: float | None  # strong only, against a one-rank baseline


def efficiencies(seconds: Mapping[int, float], *, weak: bool) -> tuple[Efficiency, ...] | Refusal:
    """Return each point's speed-up and efficiency. `seconds` maps ranks to the time of a step.

    The baseline is the smallest number of ranks p0: E = S * p0 / p (strong) or T0/Tp (weak).
    """
    if len(seconds) < 2:
        return Refusal(reason="one point is no scaling series", remedy="measure another rank count")
    if min(seconds.values()) <= 0 or min(seconds) < 1:
        raise ValueError("times and rank counts must be positive")
    base = min(seconds)
    points = []
    for ranks, time in sorted(seconds.items()):
        growth = ranks / base
        gain = seconds[base] / time * (growth if weak else 1.0)
        serial = None
        if not weak and base == 1 and ranks > 1:
            serial = karp_flatt(gain, ranks)
        points.append(
            Efficiency(
                ranks=ranks,
                seconds=time,
                speed_up=gain,
                efficiency=gain / growth,
                karp_flatt=serial,
            )
        )
    return tuple(points)


def serial_share_fit(seconds: Mapping[int, float]) -> float | Refusal:
    """Return Amdahl's s by least squares of T_p/T_1 = s + (1-s)/p, clipped to [0, 1].

    Needs the one-rank time and two more points. The value is a description, see above.
    """
    if 1 not in seconds or len(seconds) < 3:
        return Refusal(
            reason="Amdahl's law needs the one-rank time and two more points",
            remedy="measure --ranks 1 as well",
        )
    pairs = [(1 - 1 / p, t / seconds[1] - 1 / p) for p, t in seconds.items() if p > 1]
    share = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
    return min(1.0, max(0.0, share))

"""Small words that every section shares: known or not recorded, lists of ranks, nice axis ticks."""

import math
from collections.abc import Callable, Sequence

NOT_RECORDED = "not recorded"

Formatter = Callable[[float | None], str]


def known(formatter: Formatter, value: float | None) -> str:
    """Return `value` formatted, or "not recorded" for what the capture does not say."""
    if value is None or math.isnan(value):
        return NOT_RECORDED
    return formatter(value)


def ranks(numbers: Sequence[int], world: int = 0) -> str:
    """Return ranks as ranges: "rank 1", "ranks 0-3, 7", or "all ranks" of a world of that size.

    >>> ranks((3,)), ranks((0, 1, 2, 5)), ranks((0, 1), world=2), ranks(())
    ('rank 3', 'ranks 0-2, 5', 'all 2 ranks', '')
    """
    ordered = sorted(set(numbers))
    if not ordered:
        return ""
    if len(ordered) == 1:
        return f"rank {ordered[0]}"
    if world and len(ordered) == world:
        return f"all {world} ranks"
    return "ranks " + ", ".join(_ranges(ordered))


def _ranges(ordered: list[int]) -> list[str]:
    runs: list[list[int]] = []
    for rank in ordered:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return [str(a) if a == b else f"{a}-{b}" for a, b in runs]


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "step"), plural(2, "step")
    ('1 step', '2 steps')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ticks(top: float, wanted: int = 4) -> list[float]:
    """Return round values from 0 up to at most `top`, about `wanted` of them.

    >>> ticks(127), ticks(0.9)
    ([0.0, 50.0, 100.0], [0.0, 0.2, 0.4, 0.6, 0.8])
    """
    if top <= 0 or not math.isfinite(top):
        return [0.0]
    raw = top / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(top / s - wanted))
    return [round(i * step, 12) for i in range(int(top / step + 1e-9) + 1)]


def sentence(text: str) -> str:
    """Return `text` with a capital first letter and a full stop, "" for ""."""
    stripped = text.strip()
    if not stripped:
        return ""
    ended = stripped if stripped[-1] in ".!?:" else f"{stripped}."
    return ended[0].upper() + ended[1:]

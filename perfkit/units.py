"""How numbers are shown. The only module that formats them: one quantity reads alike everywhere.

Three significant digits; what is unknown (None or NaN) shows as `UNKNOWN`. Sizes are binary
(1 KiB = 1024 B), as allocators and bucket caps count; bandwidths are decimal (1 GB = 1e9 B), as
nccl-tests and data sheets count.
"""

import math
from collections.abc import Sequence

UNKNOWN = "-"

_Scale = Sequence[tuple[float, str]]

_TIME: _Scale = ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"))
_SIZE: _Scale = tuple((1024.0**i, unit) for i, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB")))
_DECIMAL: _Scale = tuple((1000.0**i, unit) for i, unit in enumerate(("", "k", "M", "G", "T", "P")))
_LONG_SECONDS = 120


def seconds(value: float | None) -> str:
    """Show a duration in seconds: `1.25 ms`, `37.0 s`, `2 min 05 s`, `1 h 02 min`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if not math.isfinite(value) or abs(value) < _LONG_SECONDS:
        return _scaled(value, _TIME, zero_unit="s")
    sign, whole = "-" if value < 0 else "", round(abs(value))
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{sign}{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float | None) -> str:
    """Show a duration in milliseconds in the unit that suits it."""
    return seconds(None if value is None else value / 1e3)


def microseconds(value: float | None) -> str:
    """Show a duration in microseconds in the unit that suits it."""
    return seconds(None if value is None else value / 1e6)


def nanoseconds(value: float | None) -> str:
    """Show a duration in nanoseconds in the unit that suits it."""
    return seconds(None if value is None else value / 1e9)


def size(value: float | None) -> str:
    """Show a number of bytes: `512 B`, `25 MiB`, `1.46 GiB`."""
    if value is not None and abs(value) < 1024:
        return f"{value:.0f} B"
    return _scaled(value, _SIZE, zero_unit="B", exact=True)


def bandwidth(value: float | None) -> str:
    """Show a bandwidth in GB/s (1e9 bytes a second) in the unit that suits it: `187 MB/s`."""
    return _scaled(_times(value, 1e9), _with_suffix("B/s"), zero_unit="B/s")


def flops(value: float | None) -> str:
    """Show floating-point operations per second: `312 TFLOP/s`."""
    return _scaled(value, _with_suffix("FLOP/s"), zero_unit="FLOP/s")


def rate(value: float | None, what: str) -> str:
    """Show things per second, unscaled up to a million: `1,230 samples/s`, `1.25 M tokens/s`."""
    if value is None or not math.isfinite(value) or abs(value) < 1e6:
        return f"{number(value)} {what}/s" if number(value) != UNKNOWN else UNKNOWN
    return f"{count(value)} {what}/s"


def count(value: float | None) -> str:
    """Show a count: `1,234` in full below a hundred thousand, then `124 M`."""
    if value is not None and abs(value) < 1e5 and float(value).is_integer():
        return f"{value:,.0f}"
    return _scaled(value, _DECIMAL, exact=True)


def number(value: float | None) -> str:
    """Show a bare number with three significant digits and no exponent."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return _digits(value) if value else "0"


def percent(share: float | None) -> str:
    """Show a share of one: `62%`, `4.3%`, `<0.1%`; never `100%` for less than all."""
    if share is None or math.isnan(share):
        return UNKNOWN
    value = share * 100
    if 0 < abs(value) < 0.05:
        return "<0.1%" if value > 0 else ">-0.1%"
    if abs(value) < 9.95:
        return f"{value:.1f}%" if value else "0%"
    if 99.5 <= value < 100:
        return f"{math.floor(value * 10) / 10:.1f}%"
    return f"{value:.0f}%"


def change(share: float | None) -> str:
    """Show a relative change with its sign: `+3.1%`, `-12%`."""
    text = percent(share)
    return f"+{text}" if share is not None and share > 0 and text != UNKNOWN else text


def ratio(value: float | None) -> str:
    """Show a factor: `1.18x`, `24.0x`."""
    return UNKNOWN if value is None or math.isnan(value) else f"{_digits(value)}x"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _with_suffix(suffix: str) -> _Scale:
    return tuple((factor, prefix + suffix) for factor, prefix in _DECIMAL)


def _scaled(value: float | None, scale: _Scale, *, zero_unit: str = "", exact: bool = False) -> str:
    """Show the value in the largest unit in which it rounds to at least one."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f} {zero_unit}".rstrip()
    factor, unit = scale[0]
    for factor_up, unit_up in scale[1:]:
        if abs(_rounded(value / factor_up)) >= 1:
            factor, unit = factor_up, unit_up
    return f"{_digits(value / factor, exact=exact)} {unit}".rstrip()


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _digits(value: float, *, exact: bool = False) -> str:
    """Return three significant digits without exponent; `exact` drops trailing zeros."""
    if not math.isfinite(value):
        return f"{value:.0f}"
    rounded = _rounded(value)
    places = 2 - math.floor(math.log10(abs(rounded))) if rounded else 0
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if exact and "." in text else text

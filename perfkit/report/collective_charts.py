"""Collectives as charts: bandwidth and time of a call against its size."""

from math import sqrt

from perfkit import units
from perfkit.analyzers.result import Analysis, CollectiveRow
from perfkit.report import axes
from perfkit.report.model import Dot, Dots, Line, PlotChart
from perfkit.report.names import name

_SHAPES = ("circle", "square", "diamond", "triangle")
_LEAST_ROWS = 2
"""One kind of call is a row of the table and no chart."""


def bandwidth_chart(analysis: Analysis) -> PlotChart | None:
    """Return bus bandwidth against message size, under the measured ceilings where there are any.

    None where fewer than two kinds of call have a bandwidth.
    """
    rows = [r for r in analysis.collectives if r.bytes and r.busbw_gbyte_per_s]
    if len(rows) < _LEAST_ROWS:
        return None
    used = analysis.roofline.ceilings if analysis.roofline is not None else ()
    roofs = [c for c in used if c.quantity.startswith("network")]
    x = axes.sizes("message size", [float(r.bytes or 0) for r in rows])
    speeds = [(r.busbw_gbyte_per_s or 0.0) * 1e9 for r in rows] + [c.value for c in roofs]
    y = axes.decades("bus bandwidth", speeds, _bandwidth, suffix="B/s")
    return PlotChart(
        id="busbw-chart",
        caption="Bus bandwidth by message size",
        x=x,
        y=y,
        dots=_by_operation(rows),
        lines=tuple(
            Line(
                name=f"{c.quantity} {_bandwidth(c.value)}",
                points=((x.low, c.value), (x.high, c.value)),
                dashed=not c.source.startswith("measured"),
            )
            for c in roofs
        ),
        note="Area: transfer time per step. Small messages stay below the bandwidth of large ones.",
    )


def _bandwidth(byte_per_s: float | None) -> str:
    return units.bandwidth(None if byte_per_s is None else byte_per_s / 1e9)


def _by_operation(rows: list[CollectiveRow]) -> tuple[Dots, ...]:
    longest = max((r.transfer_ms or 0.0) * r.count for r in rows) or 1.0
    groups: dict[str, list[CollectiveRow]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return tuple(
        Dots(
            name=name(operation, 40),
            key="comm_transfer",
            shape=_SHAPES[i % len(_SHAPES)],
            dots=tuple(
                Dot(
                    x=float(row.bytes or 0),
                    y=(row.busbw_gbyte_per_s or 0.0) * 1e9,
                    radius=_radius((row.transfer_ms or 0.0) * row.count / longest),
                    hover=_hover(row),
                )
                for row in own
            ),
        )
        for i, (operation, own) in enumerate(groups.items())
    )


def _radius(share: float) -> float:
    return round(4.0 + 10.0 * sqrt(share), 1)


def _hover(row: CollectiveRow) -> str:
    return "\n".join(
        (
            f"{name(row.name, 60)} {name(row.dtype, 20)} {units.size(row.bytes)}",
            f"group {name(row.group, 60)}, {row.ranks} ranks",
            f"{units.count(row.count)} calls a step",
            f"transfer {units.milliseconds(row.transfer_ms)}, "
            f"wait {units.milliseconds(row.wait_ms)} a call",
            f"busbw {units.bandwidth(row.busbw_gbyte_per_s)}",
        )
    )


def time_chart(analysis: Analysis) -> PlotChart | None:
    """Return transfer and wait of one call against its size; None with fewer than two kinds."""
    rows = [r for r in analysis.collectives if r.bytes and r.transfer_ms]
    if len(rows) < _LEAST_ROWS:
        return None
    dots = (
        Dots(
            name="transfer",
            key="comm_transfer",
            shape="circle",
            dots=tuple(_time_dot(r, r.transfer_ms or 0.0) for r in rows),
        ),
        Dots(
            name="waiting for ranks",
            key="comm_wait",
            shape="diamond",
            dots=tuple(_time_dot(r, r.wait_ms) for r in rows if r.wait_ms),
        ),
    )
    times = [dot.y for group in dots for dot in group.dots]
    return PlotChart(
        id="call-time-chart",
        caption="Time of one call by message size",
        x=axes.sizes("message size", [float(r.bytes or 0) for r in rows]),
        y=axes.decades("time per call", times, units.seconds, suffix="s"),
        dots=tuple(group for group in dots if group.dots),
        note="Where the line of transfers is flat, latency rules; where it rises, bandwidth does.",
    )


def _time_dot(row: CollectiveRow, milliseconds: float) -> Dot:
    return Dot(x=float(row.bytes or 0), y=milliseconds / 1e3, radius=5.0, hover=_hover(row))

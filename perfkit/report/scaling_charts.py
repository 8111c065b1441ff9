"""The plots of a scaling series (models.md 4.6): ranks on a logarithmic axis of base two."""

from collections.abc import Iterable, Sequence

from perfkit import units
from perfkit.analyzers.scaling_losses import CAUSES, FAMILY
from perfkit.analyzers.scaling_result import Scaling, ScalingPoint
from perfkit.report import palette
from perfkit.report.axes import Label, linear, near, place
from perfkit.report.model import Axis, Bar, BarChart, Dot, Dots, Line, PlotChart, Segment, Tick
from perfkit.report.scaling_text import span
from perfkit.report.show import plural

GUIDE = 0.8
"""Efficiency that POP calls acceptable."""
RADIUS = 5.0
KEY, DOUBTED = "compute", "limit-none"


def rank_axis(ranks: Iterable[int]) -> Axis:
    """Return a logarithmic axis that is labelled at the rank counts themselves."""
    known = sorted(set(ranks))
    axis = Axis(
        title="ranks", low=known[0] / 1.3, high=known[-1] * 1.3, ticks=(), log=True,
        values=tuple(map(float, known)),
    )  # fmt: skip
    labels = tuple(Tick(at=place(axis, p), text=f"{p}") for p in known)
    return Axis(
        title=axis.title, low=axis.low, high=axis.high, ticks=labels, log=True, values=axis.values
    )


def _dots(points: Sequence[ScalingPoint], value: str, hover: str, show: Label) -> tuple[Dots, ...]:
    """Return marks of the points, those with more ranks than cores apart."""
    kinds = (
        ("measured", KEY, "circle", [p for p in points if not p.oversubscribed]),
        ("more ranks than cores", DOUBTED, "diamond", [p for p in points if p.oversubscribed]),
    )
    found = []
    for name, key, shape, own in kinds:
        dots = tuple(
            Dot(
                x=float(p.ranks),
                y=float(getattr(p, value)),
                radius=RADIUS,
                hover=f"{plural(p.ranks, 'rank')}: {show(getattr(p, value))} "
                f"{_interval(p, hover, show)}",
            )
            for p in own
        )
        if dots:
            found.append(Dots(name=name, key=key, shape=shape, dots=dots))
    return tuple(found)


def _interval(point: ScalingPoint, name: str, show: Label) -> str:
    limits = getattr(point, name)
    return "(one run)" if limits is None else f"({span(limits, show)})"


def _whiskers(points: Sequence[ScalingPoint], name: str) -> tuple[Line, ...]:
    """Return the 95 % interval of each point as an upright line."""
    found = []
    for point in points:
        limits = getattr(point, name)
        if limits is not None:
            ends = tuple((float(point.ranks), limit) for limit in limits)
            found.append(Line(name="", points=ends, key=KEY, labelled=False))
    return tuple(found)


def step_chart(found: Scaling) -> PlotChart:
    """Return step time against ranks, with the ideal and the predictions as a fan."""
    points = found.points
    guesses = [g for g in found.predictions if not g.refused]
    x = rank_axis([p.ranks for p in points] + [g.ranks for g in guesses])
    values = [p.step_ms for p in points] + [p.ideal_ms for p in points]
    values += [v for g in guesses for v in (g.low_ms, g.high_ms) if v]
    values += [v for p in points for v in p.step_interval_ms or ()]
    y = near("step time", values, units.milliseconds, suffix=" ms")
    ideal = tuple((float(p.ranks), p.ideal_ms) for p in points)
    lines = [Line(name="ideal", points=ideal, dashed=True), *_whiskers(points, "step_interval_ms")]
    fan = (("", "step_ms", False), ("", "low_ms", True), ("", "high_ms", True))
    last = [p for p in points if p.in_fit][-1:]
    for name, field, dashed in fan if guesses else ():
        start = [(float(p.ranks), p.step_ms) for p in last if p.ranks < guesses[0].ranks]
        line = tuple([*start, *((float(g.ranks), max(getattr(g, field), y.low)) for g in guesses)])
        if len(line) > 1:
            lines.append(
                Line(name=name, points=line, key="communication", dashed=dashed, labelled=False)
            )
    dots = _dots(points, "step_ms", "step_interval_ms", units.milliseconds)
    predicted = tuple(
        Dot(x=float(g.ranks), y=float(g.step_ms or 0), radius=RADIUS,
            hover=f"{g.ranks} ranks: {units.milliseconds(g.step_ms)} predicted "
                  f"({units.milliseconds(g.low_ms)} to {units.milliseconds(g.high_ms)})")
        for g in guesses
    )  # fmt: skip
    if predicted:
        dots += (Dots(name="predicted", key="communication", shape="triangle", dots=predicted),)
    return PlotChart(
        id="scaling-step",
        caption="Time of a step: measured, ideal and predicted",
        x=x,
        y=y,
        dots=dots,
        lines=tuple(lines),
        note="Upright lines: 95 % bootstrap over runs. The predicted stretch lies between the "
        "dashed lines of the fan.",
    )


def throughput_chart(found: Scaling) -> PlotChart:
    """Return samples per second against ranks, with the ideal."""
    points = found.points
    base = points[0]
    ideal = tuple((float(p.ranks), base.samples_per_s * p.ranks / base.ranks) for p in points)
    values = [p.samples_per_s for p in points] + [y for _, y in ideal]
    values += [v for p in points for v in p.samples_per_s_interval or ()]
    return PlotChart(
        id="scaling-throughput",
        caption="Throughput",
        x=rank_axis(p.ranks for p in points),
        y=near("samples/s", values, units.number),
        dots=_dots(points, "samples_per_s", "samples_per_s_interval", units.number),
        lines=(
            Line(name="ideal", points=ideal, dashed=True),
            *_whiskers(points, "samples_per_s_interval"),
        ),
    )


def efficiency_chart(found: Scaling) -> PlotChart:
    """Return efficiency against ranks, with the guide at 0.8."""
    points = found.points
    x = rank_axis(p.ranks for p in points)
    top = max([1.0, *(p.efficiency for p in points)])
    guide = ((x.low, GUIDE), (x.high, GUIDE))
    return PlotChart(
        id="scaling-efficiency",
        caption="Efficiency",
        x=x,
        y=linear("efficiency", top, units.percent),
        dots=_dots(points, "efficiency", "efficiency_interval", units.percent),
        lines=(
            Line(name="80%: acceptable by POP", points=guide, dashed=True),
            *_whiskers(points, "efficiency_interval"),
        ),
    )


def karp_flatt_chart(found: Scaling) -> PlotChart | None:
    """Return the Karp-Flatt value against ranks; None where a series has none."""
    points = [p for p in found.points if p.karp_flatt is not None and p.karp_flatt >= 0]
    if not points:
        return None
    dots = tuple(
        Dot(x=float(p.ranks), y=float(p.karp_flatt or 0), radius=RADIUS,
            hover=f"{plural(p.ranks, 'rank')}: {units.percent(p.karp_flatt)}")
        for p in points
    )  # fmt: skip
    return PlotChart(
        id="scaling-karp-flatt",
        caption="Karp-Flatt: the serial share that each point alone would mean",
        x=rank_axis(p.ranks for p in points),
        y=linear("serial share", max(d.y for d in dots) or 0.01, units.percent),
        dots=(Dots(name="Karp-Flatt", key=KEY, shape="circle", dots=dots),),
        note="Rising: overhead grows with the ranks. Constant: serial code, or a ring all-reduce "
        "bound by bandwidth, which gives the same curve; the budget tells which.",
    )


def class_chart(found: Scaling) -> BarChart:
    """Return the budget of a step at each number of ranks, stacked."""
    longest = max(p.step_ms for p in found.points)
    bars, used = [], set()
    for point in found.points:
        parts = [(k, ms) for k in palette.ORDER if (ms := point.classes_ms.get(k))]
        used |= {key for key, _ in parts}
        segments = tuple(
            Segment(key=key, width=round(ms / longest * 100, 3), text=units.milliseconds(ms),
                    hover=f"{palette.label(key)}: {units.milliseconds(ms)}")
            for key, ms in parts
        )  # fmt: skip
        bars.append(
            Bar(
                label=plural(point.ranks, "rank"),
                total=units.milliseconds(point.step_ms),
                segments=segments,
                marked="more ranks than cores" if point.oversubscribed else "",
            )
        )
    return BarChart(
        id="scaling-classes",
        caption="Where a step goes, by number of ranks",
        bars=tuple(bars),
        legend=tuple(k for k in palette.ORDER if k in used),
        note="Shares of the profiled steps, on the time of the unprofiled ones; mean over ranks.",
    )


def waterfall(point: ScalingPoint) -> BarChart:
    """Return the way from the ideal to the measured step, cause by cause."""
    losses = [loss for loss in point.losses if abs(loss.share) >= 0.001]
    reached, top = point.ideal_ms, max(point.ideal_ms, point.step_ms)
    rows = []
    for loss in losses:
        rows.append((loss, min(reached, reached + loss.ms)))
        reached += loss.ms
        top = max(top, reached)
    bars = [_whole("ideal", point.ideal_ms, top)]
    for loss, start in rows:
        text = f"{'+' if loss.ms > 0 else ''}{units.milliseconds(loss.ms)}"
        hover = f"{CAUSES[loss.cause]}: {text}"
        bars.append(
            Bar(
                label=loss.cause.replace("_", " "),
                total=text,
                segments=(
                    Segment(key="gap", width=round(start / top * 100, 3), text="", hover=""),
                    Segment(
                        key=FAMILY[loss.cause],
                        width=round(abs(loss.ms) / top * 100, 3),
                        text=text,
                        hover=hover,
                    ),
                ),
            )
        )
    bars.append(_whole("measured", point.step_ms, top))
    return BarChart(
        id=f"scaling-waterfall-{point.ranks}",
        caption=f"From the ideal to the measured step on {plural(point.ranks, 'rank')}",
        bars=tuple(bars),
        legend=tuple(dict.fromkeys(FAMILY[loss.cause] for loss, _ in rows)),
        note="A cause with a minus is better than the ideal.",
    )


def _whole(label: str, ms: float, top: float) -> Bar:
    shown = units.milliseconds(ms)
    segment = Segment(key="other", width=round(ms / top * 100, 3), text=shown, hover=shown)
    return Bar(label=label, total=shown, segments=(segment,))

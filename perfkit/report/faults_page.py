"""A fault run as one offline page."""

from collections.abc import Iterator
from math import isfinite

from perfkit import units
from perfkit.analyzers.faults_result import Faults, Times
from perfkit.report import html, show
from perfkit.report.axes import linear
from perfkit.report.faults_text import assumption
from perfkit.report.model import (
    Bar,
    BarChart,
    Block,
    Cell,
    Column,
    Dot,
    Dots,
    Fact,
    Facts,
    Line,
    Note,
    Page,
    PlotChart,
    Section,
    Segment,
    Table,
)
from perfkit.report.names import name


def render(found: Faults, *, light: bool = True) -> str:
    """Return the whole page; `light` leaves plotly out."""
    page = Page(
        title=f"Fault of rank {found.killed_rank} after step {found.killed_after_step} · perfkit",
        subtitle=name(found.command, 160),
        version=name(found.perfkit_version, 40),
        sections=sections(found),
    )
    return html.write(page, light=light)


def sections(found: Faults) -> tuple[Section, ...]:
    """Return the sections of a fault run, for its own page or for a report."""
    fleet = _fleet(found)
    return (_recovery(found), *((fleet,) if fleet is not None else ()))


def _recovery(found: Faults) -> Section:
    tone = "good" if found.passed else "error"
    blocks: list[Block] = [Note(text=found.sentence, tone=tone)]
    if found.times is not None:
        blocks += [Facts(items=tuple(_tiles(found, found.times)), tiles=True), _bar(found.times)]
    chart = loss_chart(found)
    blocks += [chart] if chart is not None else []
    blocks += [Note(text=show.sentence(note)) for note in found.notes]
    return Section(
        id="faults",
        title="A killed rank",
        short="Faults",
        lead="The same command twice: left alone, and with one rank killed and all restarted by "
        "the launcher.",
        blocks=tuple(blocks),
    )


def _tiles(found: Faults, times: Times) -> Iterator[Fact]:
    yield Fact(name="Detection", text=units.seconds(times.detection_s))
    yield Fact(name="Restart", text=units.seconds(times.restart_s))
    yield Fact(name="Lost work", text=units.seconds(times.lost_work_s))
    if found.goodput is not None:
        yield Fact(name="Goodput of this run", text=units.percent(found.goodput))
    if found.checkpoint is not None:
        yield Fact(name="A checkpoint", text=units.milliseconds(found.checkpoint.median_ms))


def _bar(times: Times) -> BarChart:
    parts = (
        ("detection", "comm_wait", times.detection_s),
        ("restart", "host_launch", times.restart_s),
        ("lost work", "compute", times.lost_work_s),
    )
    bars = tuple(
        Bar(
            label=what,
            total=units.seconds(value),
            segments=(
                Segment(
                    key="gap", width=round(_share(before, times.total_s), 3), text="", hover=""
                ),
                Segment(
                    key=key,
                    width=round(_share(value, times.total_s), 3),
                    text=units.seconds(value),
                    hover=f"{what}: {units.seconds(value)}",
                ),
            ),
        )
        for (what, key, value), before in zip(parts, _starts(times), strict=True)
    )
    return BarChart(
        id="faults-times",
        caption="From the kill until the step was done again",
        bars=bars,
        legend=(),
        note="Detection ends when the first new process starts, restart when the slowest rank's "
        "first new step begins.",
    )


def _starts(times: Times) -> tuple[float, float, float]:
    return 0.0, times.detection_s, times.detection_s + times.restart_s


def _share(value: float, total: float) -> float:
    return value / total * 100 if total > 0 else 0.0


def loss_chart(found: Faults) -> PlotChart | None:
    """Return the losses of the killed rank with and without the kill; None where none is known."""
    own = [p for p in found.losses if p.rank == found.killed_rank and isfinite(p.uninterrupted)]
    if not own:
        return None
    untouched = tuple(sorted({(float(p.step), p.uninterrupted) for p in own}))
    kinds = (
        (0, "before the kill", "communication", "circle"),
        (1, "after the restart", "compute", "diamond"),
    )
    dots = tuple(
        Dots(
            name=text,
            key=key,
            shape=shape,
            dots=tuple(
                Dot(
                    x=float(p.step),
                    y=p.killed,
                    radius=3.5,
                    hover=f"step {p.step}: {units.number(p.killed)}",
                )
                for p in own
                if (p.attempt > 0) == bool(after) and isfinite(p.killed)
            ),
        )
        for after, text, key, shape in kinds
    )
    top = max([y for _, y in untouched] + [d.y for group in dots for d in group.dots])
    return PlotChart(
        id="faults-losses",
        caption=f"Loss of rank {found.killed_rank}",
        x=linear("step", float(found.steps_without_kill), units.count),
        y=linear("loss", top, units.number),
        dots=tuple(group for group in dots if group.dots),
        lines=(Line(name="without the kill", points=untouched),),
    )


def _fleet(found: Faults) -> Section | None:
    if not found.fleet:
        return None
    titles = ("Ranks", "Job fails every", "Young", "Daly", "Best interval", "Goodput", "As now")
    rows = tuple(
        (
            Cell(text=units.count(row.ranks), value=row.ranks),
            Cell(text=units.seconds(row.mtbf_s), value=row.mtbf_s),
            Cell(text=units.seconds(row.young_s), value=row.young_s),
            Cell(text=units.seconds(row.daly_s), value=row.daly_s),
            Cell(text=units.seconds(row.best_s), value=row.best_s),
            Cell(text=units.percent(row.goodput), value=row.goodput, bar=row.goodput),
            Cell(text=units.percent(row.goodput_now), value=row.goodput_now),
        )
        for row in found.fleet
    )
    hours = units.number(found.mtbf_of_one_rank_s / 3600)
    return Section(
        id="checkpoint-interval",
        title="How often to checkpoint",
        short="Checkpoints",
        lead=f"One rank fails every {hours} h ({found.mtbf_source}).",
        blocks=(
            Table(
                id="faults-fleet",
                caption="Interval and goodput by number of ranks",
                columns=tuple(Column(title=title, numeric=True) for title in titles),
                rows=rows,
                note=assumption(found),
            ),
        ),
    )

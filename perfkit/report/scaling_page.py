"""A scaling series as one offline page."""

from collections.abc import Iterator

from perfkit import units
from perfkit.analyzers.scaling_losses import CAUSES
from perfkit.analyzers.scaling_result import Scaling, ScalingPoint
from perfkit.report import figure_svg, html, scaling_charts, show
from perfkit.report.efficiency_section import factor_title
from perfkit.report.model import Block, Cell, Column, Note, Page, Section, Table
from perfkit.report.names import name
from perfkit.report.scaling_text import contention, link, span


def render(found: Scaling, *, light: bool = True) -> str:
    """Return the whole page; `light` leaves plotly out."""
    return html.write(page(found), light=light)


def page(found: Scaling) -> Page:
    """Return what the page shows."""
    counts = ", ".join(str(p.ranks) for p in found.points)
    sections = (_summary(found), _losses(found), _models(found), _predictions(found))
    return Page(
        title=f"{found.mode.capitalize()} scaling on {counts} ranks · perfkit",
        subtitle=" · ".join(x for x in (name(found.command, 160), name(found.model, 80)) if x),
        version=name(found.perfkit_version, 40),
        sections=tuple(section for section in sections if section is not None),
    )


def drawing(found: Scaling) -> str:
    """Return all plots as one SVG file that needs nothing else."""
    karp_flatt = scaling_charts.karp_flatt_chart(found)
    charts: list[figure_svg.Chart] = [
        scaling_charts.step_chart(found),
        scaling_charts.throughput_chart(found),
        scaling_charts.efficiency_chart(found),
        scaling_charts.class_chart(found),
        *(scaling_charts.waterfall(point) for point in found.points[1:]),
        *([] if karp_flatt is None else [karp_flatt]),
    ]
    return figure_svg.figure(f"{found.mode.capitalize()} scaling", charts)


def _summary(found: Scaling) -> Section:
    blocks: list[Block] = [Note(text=text) for text in found.sentences]
    blocks += [
        Note(text=show.sentence(w.message), tone="warning", code=w.code) for w in found.warnings
    ]
    blocks += [
        _measured(found),
        scaling_charts.step_chart(found),
        scaling_charts.throughput_chart(found),
        scaling_charts.efficiency_chart(found),
    ]
    return Section(
        id="scaling",
        title=f"{found.mode.capitalize()} scaling",
        short="Scaling",
        lead="Step: median of unprofiled steady steps of the slowest rank; points are medians over "
        "runs, intervals 95 % bootstrap over runs.",
        blocks=tuple(blocks),
    )


def _measured(found: Scaling) -> Table:
    titles = ("Ranks", "Runs", "Step", "Samples per step", "Samples/s", "Speed-up", "Efficiency",
              "Main loss")  # fmt: skip
    rows = tuple(
        (
            Cell(text=f"{p.ranks}{' ▲' if p.oversubscribed else ''}", value=p.ranks),
            Cell(text=str(len(p.runs)), value=len(p.runs), hover=", ".join(p.runs)),
            Cell(text=_with_span(p), value=p.step_ms),
            Cell(text=units.count(p.samples_per_step), value=p.samples_per_step),
            Cell(text=units.number(p.samples_per_s), value=p.samples_per_s),
            Cell(text=units.ratio(p.speed_up), value=p.speed_up),
            Cell(text=units.percent(p.efficiency), value=p.efficiency, bar=min(p.efficiency, 1.0)),
            Cell(text="" if p.main_loss is None else CAUSES[p.main_loss]),
        )
        for p in found.points
    )  # fmt: skip
    return Table(
        id="scaling-points",
        caption="What was measured",
        columns=tuple(Column(title=t, numeric=t != titles[-1]) for t in titles),
        rows=rows,
    )


def _with_span(point: ScalingPoint) -> str:
    shown = span(point.step_interval_ms, units.milliseconds)
    return f"{units.milliseconds(point.step_ms)} ({shown})"


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _losses(found: Scaling) -> Section:
    blocks: list[Block] = [scaling_charts.class_chart(found)]
    blocks += [scaling_charts.waterfall(point) for point in found.points[1:]]
    factors = _factors(found)
    blocks += [factors] if factors is not None else []
    told = [contention(p) for p in found.points if p.contention is not None]
    blocks += [Note(text=show.sentence(f"Contention: {'; '.join(told)}"))] if told else []
    return Section(
        id="losses",
        title="Why efficiency is lost",
        short="Losses",
        lead="The causes come from the budgets of the runs, never from the shape of the curve.",
        blocks=tuple(blocks),
    )


def _factors(found: Scaling) -> Table | None:
    names = list(dict.fromkeys(n for p in found.points for n in p.factors))
    if not names:
        return None
    columns = (Column(title="Factor"), *(Column(title=show.plural(p.ranks, "rank"), numeric=True)
                                         for p in found.points))  # fmt: skip
    rows = tuple(
        (
            Cell(text=factor_title(factor)),
            *(
                Cell(text=show.known(units.percent, value), value=value)
                for value in (p.factors.get(factor) for p in found.points)
            ),
        )
        for factor in names
    )
    return Table(
        id="scaling-factors", caption="Efficiency factors (POP)", columns=columns, rows=rows
    )


def _models(found: Scaling) -> Section:
    blocks: list[Block] = []
    karp_flatt = scaling_charts.karp_flatt_chart(found)
    blocks += [karp_flatt] if karp_flatt is not None else []
    fits = found.fits
    if fits is None:
        blocks.append(
            Note(text=show.sentence(f"No model is fitted: {found.fit_refused}"), tone="warning")
        )
    else:
        blocks.append(
            Table(
                id="scaling-models",
                caption="Models, by leave-one-out error",
                columns=(
                    Column(title="Model"),
                    Column(title="Error", numeric=True),
                    Column(title="Outcome"),
                ),
                rows=tuple(
                    (
                        Cell(text=m.name),
                        Cell(text=units.percent(_share(m.error_percent)), value=m.error_percent),
                        Cell(text=m.refused or ("used" if m.name == fits.chosen else "")),
                    )
                    for m in fits.models
                ),
                note="A less simple model is used only if its error is 1.3 times smaller.",
            )
        )  # fmt: skip
        blocks += [Note(text=text) for text in _fitted(found)]
    return Section(
        id="models",
        title="Laws and models",
        short="Models",
        lead="Laws describe the curve. A bandwidth-bound ring all-reduce gives the same constant "
        "Karp-Flatt value as serial code.",
        blocks=tuple(blocks),
    )


def _fitted(found: Scaling) -> Iterator[str]:
    fits = found.fits
    assert fits is not None
    if fits.link is not None:
        yield f"Network: {link(fits.link)}."
    if fits.physics_compute_ms is not None:
        yield f"Physics: {units.milliseconds(fits.physics_compute_ms)} of compute" + (
            "." if fits.physics_serial_ms is None
            else f" that shrinks, {units.milliseconds(fits.physics_serial_ms)} that does not."
        )  # fmt: skip
    if fits.amdahl_serial_share is not None:
        yield f"Amdahl's law: {units.percent(fits.amdahl_serial_share)} serial."
    if fits.usl is not None:
        yield (
            f"Universal Scalability Law: contention {units.percent(fits.usl.contention)}, "
            f"coherency {units.percent(fits.usl.coherency)}, peak at "
            f"{units.number(fits.usl.peak_ranks)} ranks."
        )
    else:
        yield show.sentence(f"Universal Scalability Law: {fits.usl_refused}")
    yield show.sentence(f"Extra-P form (ms): {fits.growth or fits.growth_refused}")


def _predictions(found: Scaling) -> Section | None:
    if not found.predictions and not found.costs:
        return None
    blocks: list[Block] = []
    if found.predictions:
        blocks.append(_guesses(found))
    if found.costs:
        blocks.append(_costs(found))
    if found.knee_ranks is not None:
        text = f"Knee: speed-up times efficiency is largest on {found.knee_ranks} ranks."
        blocks.append(Note(text=text))
    over = "" if found.predicted_link is None else f"Network: {link(found.predicted_link)}. "
    return Section(
        id="predictions",
        title="More ranks",
        short="More ranks",
        lead=f"{over}Intervals join refits to resampled runs and the model's own error, counted "
        "once more for every doubling beyond what was measured.",
        blocks=tuple(blocks),
    )


def _guesses(found: Scaling) -> Table:
    titles = ("Ranks", "Step", "From", "To", "Samples/s", "Efficiency")
    rows = tuple(
        (
            Cell(text=str(g.ranks), value=g.ranks),
            Cell(text=g.refused or units.milliseconds(g.step_ms), value=g.step_ms),
            Cell(text=units.milliseconds(g.low_ms), value=g.low_ms),
            Cell(text=units.milliseconds(g.high_ms), value=g.high_ms),
            Cell(text=units.number(g.samples_per_s), value=g.samples_per_s),
            Cell(text=units.percent(g.efficiency), value=g.efficiency),
        )
        for g in found.predictions
    )
    return Table(
        id="scaling-predictions",
        caption="Predicted, not measured",
        columns=tuple(Column(title=t, numeric=True) for t in titles),
        rows=rows,
    )


def _costs(found: Scaling) -> Table:
    priced = any(c.price is not None for c in found.costs)
    titles = ("Ranks", "Time", "Rank-hours", *(("Price",) if priced else ()))
    rows = tuple(
        (
            Cell(text=str(c.ranks), value=c.ranks),
            Cell(text=units.seconds(c.hours * 3600), value=c.hours),
            Cell(text=units.number(c.gpu_hours), value=c.gpu_hours),
            *((Cell(text=units.number(c.price), value=c.price),) if priced else ()),
            Cell(text="predicted" if c.predicted else "measured"),
        )
        for c in found.costs
    )
    cheapest, fastest = (
        "not known" if ranks is None else show.plural(ranks, "rank")
        for ranks in (found.cheapest_ranks, found.fastest_ranks)
    )
    return Table(
        id="scaling-costs",
        caption=f"Time and cost of {found.work}",
        columns=(*(Column(title=t, numeric=True) for t in titles), Column(title="How known")),
        rows=rows,
        note=f"Cheapest: {cheapest}; fastest: {fastest}.",
    )

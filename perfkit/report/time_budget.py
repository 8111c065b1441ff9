"""Where the time of the analysed steps went: per run, rank and step, before and after blame."""

from collections.abc import Mapping

from perfkit import units
from perfkit.analyzers.result import Analysis, Blame, ClassTime, StepBudget
from perfkit.report import palette, show
from perfkit.report.model import Bar, BarChart, Block, Cell, Column, Note, Section, Segment, Table
from perfkit.report.names import name

STEP_BARS = 96
"""Bars of the per-step chart; beyond, only the slowest and the fastest rank of a step are drawn."""

_ROOM_FOR_TEXT = 7.0
"""Percent of the width from which a segment has room for its share."""


def budget_section(analysis: Analysis) -> Section:
    """Return the budget of the run and of each rank, and who waited for whom."""
    if not analysis.budget.per_rank:
        empty = Note(text="No step was profiled, so there is no budget.", tone="warning")
        return Section(
            id="budget", short="Budget", title="Where a step's time goes", lead="", blocks=(empty,)
        )
    return Section(
        id="budget",
        short="Budget",
        title="Where a step's time goes",
        lead="Every nanosecond of a step on a rank has exactly one class; hatched is waiting.",
        blocks=(rollup_chart(analysis), rank_chart(analysis)),
    )


def class_section(analysis: Analysis) -> Section | None:
    """Return the budget in numbers, and who waited for whom."""
    blocks: list[Block] = [_class_table(analysis)] if analysis.budget.per_rank else []
    if analysis.verdict.blame:
        blocks.append(_blame_table(analysis))
    if not blocks:
        return None
    return Section(
        id="classes",
        short="In numbers",
        title="The budget in numbers",
        lead="Classes exclude each other and sum to the step.",
        blocks=tuple(blocks),
    )


def rollup_chart(analysis: Analysis) -> BarChart:
    """Return the four families before and after blame, as two bars of the whole step."""
    rows = (
        ("before blame", analysis.budget.rollup),
        ("after blame", analysis.verdict.rollup_after_blame),
    )
    bars = tuple(
        Bar(label=label, total="", segments=_family_segments(shares))
        for label, shares in rows
        if shares
    )
    return BarChart(
        id="rollup",
        caption="The step in four families, mean over ranks",
        bars=bars,
        legend=tuple(palette.FAMILIES),
        note="After blame, waiting inside collectives is charged to what the last rank to arrive "
        "was doing, and so are transfers that the others could have hidden had it been on time.",
    )


def _family_segments(shares: Mapping[str, float]) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            key=family,
            width=round(shares[family] * 100, 3),
            text=units.percent(shares[family]) if shares[family] * 100 >= _ROOM_FOR_TEXT else "",
            hover=f"{palette.label(family)}: {units.percent(shares[family])} of the step",
        )
        for family in palette.FAMILIES
        if shares.get(family, 0.0) > 0
    )


def rank_chart(analysis: Analysis) -> BarChart:
    """Return one stacked bar a rank, before blame, on the scale of the longest window."""
    longest = max(r.window_ms for r in analysis.budget.per_rank)
    bars = []
    for row in analysis.budget.per_rank:
        times = {key: t.ms for key, t in row.classes.items() if t is not None}
        bars.append(
            Bar(
                label=f"rank {row.rank}",
                total=units.milliseconds(row.window_ms),
                segments=_segments(times, row.window_ms, longest),
                marked=_straggler_mark(analysis, row.rank),
            )
        )
    return BarChart(
        id="ranks",
        caption="Mean step of each rank, before blame",
        bars=tuple(bars),
        legend=_used(analysis),
        note=_null_note(analysis),
    )


def _straggler_mark(analysis: Analysis, rank: int) -> str:
    late = [s for s in analysis.stragglers if s.rank == rank]
    if not late:
        return ""
    worst = max(late, key=lambda s: s.excess_ms)
    return f"late: {units.milliseconds(worst.excess_ms)} more {palette.label(worst.class_)}"


def _segments(times: Mapping[str, float], window: float, scale: float) -> tuple[Segment, ...]:
    """Return the classes of one window as segments of a bar whose full width is `scale` ms."""
    found = []
    for key in palette.ORDER:
        milliseconds = times.get(key, 0.0)
        if milliseconds <= 0 or window <= 0 or scale <= 0:
            continue
        width = milliseconds / scale * 100
        share = units.percent(milliseconds / window)
        found.append(
            Segment(
                key=key,
                width=round(width, 3),
                text=share if width >= _ROOM_FOR_TEXT else "",
                hover=f"{palette.label(key)}: {units.milliseconds(milliseconds)}, {share}",
            )
        )
    return tuple(found)


def _used(analysis: Analysis) -> tuple[str, ...]:
    """Return the classes that some rank spent time in, in stacking order."""
    spent = {
        key
        for row in analysis.budget.per_rank
        for key, time in row.classes.items()
        if time is not None and time.ms > 0
    }
    return tuple(key for key in palette.ORDER if key in spent)


def _null_note(analysis: Analysis) -> str:
    missing = [k for k in palette.ORDER if analysis.budget.classes.get(k, _NOTHING) is None]
    if not missing:
        return ""
    return (
        "Not recorded in this capture, so neither zero nor counted: "
        + ", ".join(palette.label(k) for k in missing)
        + "."
    )


_NOTHING = ClassTime(ms=0.0, share=0.0)


def _class_table(analysis: Analysis) -> Table:
    rows = []
    for key in palette.ORDER:
        time = analysis.budget.classes.get(key, _NOTHING)
        if time is None or time.ms == 0:
            continue
        rows.append(
            (
                Cell(text=palette.label(key), swatch=key, hover=key),
                Cell(text=palette.label(palette.FAMILY_OF[key])),
                _time_cell(time.ms),
                _share_cell(time.share),
                *_extremes(analysis, key),
            )
        )
    return Table(
        id="class-table",
        caption="Time per step by class, mean over ranks, before blame",
        columns=(
            Column(title="Class"),
            Column(title="Family"),
            Column(title="Time per step", meaning="class_ms", numeric=True),
            Column(title="Share", meaning="class_share", numeric=True),
            Column(title="Least, on rank", meaning="class_ms", numeric=True),
            Column(title="Most, on rank", meaning="class_ms", numeric=True),
        ),
        rows=tuple(rows),
        note=" ".join(t for t in ("Classes without time are left out.", _null_note(analysis)) if t),
    )


def _extremes(analysis: Analysis, key: str) -> tuple[Cell, Cell]:
    times = [(t.ms, r.rank) for r in analysis.budget.per_rank if (t := r.classes.get(key))]
    if not times:
        return Cell(text=show.NOT_RECORDED), Cell(text=show.NOT_RECORDED)
    low, high = min(times), max(times, key=lambda time: (time[0], -time[1]))
    return (
        Cell(text=f"{units.milliseconds(low[0])} · {low[1]}", value=low[0]),
        Cell(text=f"{units.milliseconds(high[0])} · {high[1]}", value=high[0]),
    )


def _time_cell(milliseconds: float | None) -> Cell:
    return Cell(text=show.known(units.milliseconds, milliseconds), value=milliseconds)


def _share_cell(share: float | None) -> Cell:
    return Cell(text=show.known(units.percent, share), value=share, bar=share)


def _blame_table(analysis: Analysis) -> Table:
    rows = tuple(_blame_row(blame) for blame in analysis.verdict.blame)
    return Table(
        id="blame",
        caption="Who the others waited for, and what that rank was doing",
        columns=(
            Column(title="Late rank"),
            Column(title="It was busy with"),
            Column(title="Wait caused per step", meaning="blame", numeric=True),
        ),
        rows=rows,
    )


def _blame_row(blame: Blame) -> tuple[Cell, ...]:
    nobody = blame.rank < 0
    known_class = blame.class_ in palette.CLASSES
    return (
        Cell(text="nobody stands out" if nobody else f"rank {blame.rank}", value=blame.rank),
        Cell(
            text=name(palette.label(blame.class_), 60),
            swatch=blame.class_ if known_class else "",
        ),
        _time_cell(blame.ms),
    )


def step_section(analysis: Analysis) -> Section | None:
    """Return the budget of every analysed step on every rank."""
    rows = analysis.budget.per_step
    if not rows:
        return None
    shown, note = _thinned(rows)
    longest = max(row.window_ms for row in shown)
    bars = tuple(
        Bar(
            group=f"step {row.step}",
            label=f"rank {row.rank}",
            total=units.milliseconds(row.window_ms),
            segments=_segments(row.classes_ms, row.window_ms, longest),
        )
        for row in shown
    )
    chart = BarChart(
        id="per-step",
        caption="Every analysed step on every rank, before blame",
        bars=bars,
        legend=_used(analysis),
        note=note,
        dense=True,
    )
    lead = "Steps that look alike back the mean above; one that does not is worth a look."
    return Section(id="steps", short="Steps", title="Step by step", lead=lead, blocks=(chart,))


def _thinned(rows: tuple[StepBudget, ...]) -> tuple[list[StepBudget], str]:
    """Return the bars to draw and a note on what was left out."""
    ordered = sorted(rows, key=lambda row: (row.step, row.rank))
    if len(ordered) <= STEP_BARS:
        return ordered, ""
    steps: dict[int, list[StepBudget]] = {}
    for row in ordered:
        steps.setdefault(row.step, []).append(row)
    extremes = [row for group in steps.values() for row in _fastest_and_slowest(group)]
    note = f"Of {show.plural(len(ordered), 'bar')} the fastest and the slowest rank of each step "
    kept = extremes[:STEP_BARS]
    if len(kept) < len(extremes):
        return kept, f"{note}are drawn, up to step {kept[-1].step}."
    return kept, f"{note}are drawn."


def _fastest_and_slowest(group: list[StepBudget]) -> list[StepBudget]:
    low = min(group, key=lambda row: row.window_ms)
    high = max(group, key=lambda row: row.window_ms)
    return [low] if low is high else [low, high]

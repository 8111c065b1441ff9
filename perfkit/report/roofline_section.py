"""The roofline on the page: charts, what loses most above its roof, the step against its bounds."""

from collections.abc import Iterator

import msgspec

from perfkit import units
from perfkit.report import show
from perfkit.report.configuration_chart import configuration_charts
from perfkit.report.model import Block, Cell, Column, Fact, Facts, Note, Section, Table
from perfkit.report.names import name
from perfkit.report.roofline_basis import (
    ceiling_table,
    findings,
    findings_table,
    has_many_findings,
    limits_table,
    uncosted_table,
    utilization_facts,
    utilization_table,
)
from perfkit.report.roofline_charts import (
    bound_chart,
    limit_key,
    roofline_chart,
    uncosted_chart,
)
from perfkit.report.step_charts import network_chart, ridge_chart, step_bound_chart
from perfkit.roofline.configuration import NetworkRidge
from perfkit.roofline.place import Point
from perfkit.roofline.step import Pair, StepRoofline
from perfkit.roofline.summary import RunRoofline

MOST_OPERATORS = 60
MOST_RANKS = 64


def roofline_section(found: RunRoofline | None) -> Section | None:
    """Return how near the operators and the step come to what the machine can do."""
    if found is None or not (found.points or found.cannot_tell or found.uncosted):
        return None
    return Section(
        id="roofline",
        short="Roofline",
        title="Roofline: what the machine would allow",
        lead="How near each operator comes to its roof, and how much time a step loses above it.",
        blocks=tuple(_blocks(found)),
    )


def _blocks(found: RunRoofline) -> list[Block]:
    blocks: list[Block] = [Facts(items=_facts(found), tiles=True)]
    if not found.points:
        blocks += [Note(text=_told(c.claim, c.why, c.remedy)) for c in found.cannot_tell]
        chart = uncosted_chart(found)
        return [*blocks, *([chart] if chart is not None else []), *_tables(found)]
    if not any(c.quantity in ("matrix", "vector", "memory") for c in found.ceilings):
        blocks.append(_no_ceiling(found))
    blocks += findings(found)
    charts = (roofline_chart(found), bound_chart(found), step_bound_chart(found))
    blocks += [chart for chart in charts if chart is not None]
    blocks += [chart for chart in (network_chart(found), ridge_chart(found)) if chart is not None]
    blocks += configuration_charts(found)
    return [*blocks, *_tables(found)]


def _tables(found: RunRoofline) -> Iterator[Table]:
    """Yield the tables that have rows, without columns that no row has a value for."""
    bounded = any(step.ceilings.lowest_s or step.measured.lowest_s for step in found.ranks)
    wanted = (
        (bool(found.points), _operator_table),
        (bool(found.modules), _module_table),
        (bounded, _step_table),
        (bool(found.utilization), utilization_table),
        (bool(found.network), _network_table),
        (bool(found.parallelism), _parallelism_table),
        (bool(found.ceilings), ceiling_table),
        (has_many_findings(found), findings_table),
        (bool(found.uncosted), uncosted_table),
        (bool(found.points and found.cannot_tell), limits_table),
    )
    for is_known, table in wanted:
        if is_known:
            yield _known_columns(table(found))


def _known_columns(table: Table) -> Table:
    """Return a table without the columns that no row has a value for."""
    kept = [
        i
        for i, column in enumerate(table.columns)
        if not column.numeric or any(row[i].value is not None for row in table.rows)
    ]
    return msgspec.structs.replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
    )


def _told(claim: str, why: str, remedy: str) -> str:
    return name(f"{show.sentence(f'cannot tell {claim}: {why}')} {show.sentence(remedy)}", 700)


def _no_ceiling(found: RunRoofline) -> Note:
    """Say why no roof stands over the operators: the first reason that speaks of ceilings."""
    told = next((c for c in found.cannot_tell if "ceilings" in c.claim + c.why), None)
    why = told.why if told is not None else "no ceiling of this machine is known"
    remedy = show.sentence(name(told.remedy, 300)) if told is not None else ""
    return Note(
        tone="warning",
        text=f"No roof is drawn over the operators: {name(why, 300)}. {remedy}".strip(),
    )


def _facts(found: RunRoofline) -> tuple[Fact, ...]:
    facts = [
        Fact(
            name="Operators with a known cost",
            text=show.known(units.percent, found.costed_share),
            meaning="costed_share",
            note="of the operators' time",
        )
    ]
    above = sum(p.above_roof_s or 0.0 for p in found.points)
    if any(p.bound_s is not None for p in found.points):
        facts.append(
            Fact(
                name="Time above the roof",
                text=units.seconds(above),
                meaning="above_roof",
                note="per step, mean over ranks",
            )
        )
    facts += utilization_facts(found)
    return tuple(facts)


def _operator_table(found: RunRoofline) -> Table:
    left_out = len(found.points) - MOST_OPERATORS
    placed = any(point.bound_s is not None for point in found.points)
    return Table(
        id="above-roof",
        caption="Operators by time above their roof" if placed else "Operators by time",
        columns=(
            Column(title="Operator"),
            Column(title="Shapes", meaning="op_shapes"),
            Column(title="Precision"),
            Column(title="Time per step", meaning="op_time", numeric=True),
            Column(title="Bound", meaning="bound", numeric=True),
            Column(title="Above the roof", meaning="above_roof", numeric=True),
            Column(title="Of its roof", meaning="attained", numeric=True),
            Column(title="Bound by", meaning="limit"),
            Column(title="Achieved", meaning="achieved", numeric=True),
            Column(title="FLOP/byte", meaning="intensity", numeric=True),
        ),
        rows=tuple(_operator_row(point) for point in found.points[:MOST_OPERATORS]),
        note=f"The {MOST_OPERATORS} first of {len(found.points):,}." if left_out > 0 else "",
    )


def _operator_row(point: Point) -> tuple[Cell, ...]:
    again = " (recomputed)" if point.recomputed else ""
    by_compute = (
        point.limit in ("tensor", "vector")
        or not point.bytes
        or (point.limit is None and point.unit == "tensor")
    )
    achieved = point.achieved_flop_per_s if by_compute else point.achieved_bytes_per_s
    shown = units.flops(achieved) if by_compute else units.bandwidth(achieved / 1e9)
    limit = f"{point.limit or 'not known'}{', cached' if point.cache_resident else ''}"
    return (
        Cell(text=name(point.name.removeprefix("aten::"), 120) + again, foreign=True),
        Cell(text=name(point.dims, 160), foreign=True),
        Cell(text=name(point.precision, 20)),
        _seconds(point.time_s),
        _seconds(point.bound_s),
        _seconds(point.above_roof_s),
        _share(point.attained),
        Cell(text=limit, swatch=limit_key(point.limit)),
        Cell(text=shown, value=achieved),
        Cell(text=show.known(units.number, point.intensity), value=point.intensity),
    )


def _seconds(value: float | None) -> Cell:
    return Cell(text=show.known(units.seconds, value), value=value)


def _module_table(found: RunRoofline) -> Table:
    rows = tuple(
        (
            Cell(text=name(module.name.removeprefix("nn.Module: "), 120), foreign=True),
            _seconds(module.time_s),
            _seconds(module.bound_s),
            _share(module.attained),
        )
        for module in found.modules[:MOST_OPERATORS]
    )
    left_out = len(found.modules) - MOST_OPERATORS
    return Table(
        id="modules",
        caption="Modules, forward and backward",
        columns=(
            Column(title="Module"),
            Column(title="Time per step", meaning="module_time", numeric=True),
            Column(title="Bound", meaning="bound", numeric=True),
            Column(title="Of its roof", meaning="attained", numeric=True),
        ),
        rows=rows,
        note=f"The {MOST_OPERATORS} longest of {len(found.modules):,}." if left_out > 0 else "",
    )


def _share(share: float | None) -> Cell:
    bar = None if share is None else min(share, 1.0)
    return Cell(text=show.known(units.percent, share), value=share, bar=bar)


def _step_table(found: RunRoofline) -> Table:
    rows = [
        _pair_row(step, pair)
        for step in found.ranks[:MOST_RANKS]
        for pair in (step.ceilings, step.measured)
        if pair.lowest_s
    ]
    return Table(
        id="step-bounds",
        caption="The step against its bounds, by rank",
        columns=(
            Column(title="Rank"),
            Column(title="Compute time from"),
            Column(title="Measured step", meaning="window", numeric=True),
            Column(title="Compute", meaning="bound_compute", numeric=True),
            Column(title="Network", meaning="bound_network", numeric=True),
            Column(title="At least", meaning="lowest", numeric=True),
            Column(title="Without overlap", meaning="highest", numeric=True),
            Column(title="Overlap quality", meaning="overlap_quality", numeric=True),
            Column(title="Raw", meaning="overlap_raw", numeric=True),
            Column(title="Bound by", meaning="limit"),
        ),
        rows=tuple(rows),
    )


def _pair_row(step: StepRoofline, pair: Pair) -> tuple[Cell, ...]:
    overlap = pair.overlap.clipped if pair.overlap is not None else None
    raw = pair.overlap.raw if pair.overlap is not None else None
    return (
        Cell(text=f"rank {step.rank}", value=step.rank),
        Cell(text=name(pair.compute_from, 60)),
        _seconds(step.step_s),
        _seconds(pair.compute_s),
        _seconds(pair.network_s),
        _seconds(pair.lowest_s),
        _seconds(pair.highest_s),
        Cell(text="cannot tell" if overlap is None else f"{overlap:.2f}", value=overlap),
        Cell(text="" if raw is None else f"{raw:.2f}", value=raw),
        Cell(text=(step.limit or "cannot tell") if pair is step.ceilings else ""),
    )


def _network_table(found: RunRoofline) -> Table:
    return Table(
        id="network-ridge",
        caption="Where this configuration sits on the network's roof",
        columns=(
            Column(title="Level"),
            Column(title="FLOP per byte sent", meaning="network_intensity", numeric=True),
            Column(title="Ridge", meaning="network_ridge", numeric=True),
            Column(title="Work to reach it", meaning="work_factor", numeric=True),
            Column(title="Tokens per rank and step", meaning="rank_tokens", numeric=True),
            Column(title="Critical tokens", meaning="critical_tokens", numeric=True),
            Column(title="Bytes with twice the ranks", meaning="growth", numeric=True),
        ),
        rows=tuple(_network_row(row) for row in found.network),
    )


def _network_row(row: NetworkRidge) -> tuple[Cell, ...]:
    return (
        Cell(text=name(row.level, 60)),
        Cell(text=units.number(row.intensity), value=row.intensity),
        _count(row.ridge, units.number),
        _count(row.work_factor, units.ratio),
        _count(row.tokens, units.count),
        _count(row.critical_tokens, units.count),
        _growth(row),
    )


def _parallelism_table(found: RunRoofline) -> Table:
    rows = tuple(
        (
            Cell(text=name(group.group, 60) or "all ranks", foreign=True),
            Cell(text=str(group.ranks), value=group.ranks),
            Cell(text=group.kind or "cannot tell"),
            Cell(text=name(group.because, 160)),
        )
        for group in found.parallelism
    )
    return Table(
        id="parallelism",
        caption="What groups of ranks share",
        columns=(
            Column(title="Group"),
            Column(title="Ranks", numeric=True),
            Column(title="Parallelism"),
            Column(title="Because"),
        ),
        rows=rows,
    )


def _growth(row: NetworkRidge) -> Cell:
    if row.doubled_ranks_factor is None:
        return Cell(text="cannot tell")
    most = units.ratio(row.limit_factor)
    text = f"{units.ratio(row.doubled_ranks_factor)}, at most {most}"
    return Cell(text=text, value=row.doubled_ranks_factor)


def _count(value: float | None, formatter: show.Formatter) -> Cell:
    return Cell(text=show.known(formatter, value), value=value)

"""Communication on the page: by group, size and kind of call; stragglers; clocks."""

from perfkit import units
from perfkit.analyzers.result import Analysis, Clock, CollectiveRow, GroupRow, SizeRow, Straggler
from perfkit.report import palette, show
from perfkit.report.collective_charts import bandwidth_chart, time_chart
from perfkit.report.model import Bar, BarChart, Block, Cell, Column, Section, Segment, Table
from perfkit.report.names import name
from perfkit.report.network_table import network_table


def communication_section(analysis: Analysis) -> Section | None:
    """Return every kind of collective, the stragglers, and the clocks they were compared on."""
    if not analysis.budget.per_rank and not analysis.collectives:
        return None
    charts = (bandwidth_chart(analysis), time_chart(analysis))
    blocks: list[Block] = [chart for chart in charts if chart is not None]
    if len(analysis.message_sizes) > 1:
        blocks.append(_size_histogram(analysis.message_sizes))
    if analysis.groups:
        blocks.append(_group_table(analysis.groups))
    blocks.append(_collective_table(analysis))
    if analysis.networks:
        blocks.append(network_table(analysis.networks))
    if analysis.world.size > 1:
        blocks.append(_straggler_table(analysis))
    if len(analysis.clock) > 1:
        blocks.append(_clock_table(analysis))
    return Section(
        id="communication",
        short="Communication",
        title="Communication",
        lead="Transfer is what the network takes; wait is a rank that arrives late.",
        blocks=tuple(blocks),
    )


def _size_histogram(rows: tuple[SizeRow, ...]) -> BarChart:
    most = max(row.count for row in rows)
    return BarChart(
        id="sizes",
        caption="Calls per step by message size",
        bars=tuple(
            Bar(
                label=f"≥ {units.size(row.low_bytes)}",
                total=units.count(row.count),
                segments=(_size_segment(row, most),),
            )
            for row in rows
        ),
        legend=(),
        note="Bins of a factor of four. Many small messages pay the network's latency, few large "
        "ones its bandwidth.",
    )


def _size_segment(row: SizeRow, most: float) -> Segment:
    width = row.count / most * 100
    sent = f"{units.size(row.bytes)} a step"
    return Segment(
        key="comm_transfer",
        width=round(width, 3),
        text=sent if width > 30 else "",
        hover=f"{units.size(row.low_bytes)} to {units.size(row.high_bytes)}: "
        f"{units.count(row.count)} calls a step, {units.size(row.bytes)}, transfer "
        f"{show.known(units.milliseconds, row.transfer_ms)}",
    )


def _group_table(rows: tuple[GroupRow, ...]) -> Table:
    return Table(
        id="groups",
        caption="Communication by process group, per step and rank",
        columns=(
            Column(title="Group"),
            Column(title="Ranks", numeric=True),
            Column(title="Parallelism", meaning="parallelism"),
            Column(title="Operations"),
            Column(title="Calls", meaning="collective_count", numeric=True),
            Column(title="Bytes", meaning="group_bytes", numeric=True),
            Column(title="Transfer", meaning="group_ms", numeric=True),
            Column(title="Wait", meaning="group_ms", numeric=True),
            Column(title="Exposed", meaning="group_exposed", numeric=True),
            Column(title="Hidden", meaning="hidden_share", numeric=True),
        ),
        rows=tuple(_group_row(row) for row in rows),
    )


def _group_row(row: GroupRow) -> tuple[Cell, ...]:
    return (
        Cell(text=name(row.group) or show.NOT_RECORDED, foreign=bool(row.group)),
        Cell(text=f"{row.ranks}", value=row.ranks),
        Cell(text=name(row.kind, 40), hover=name(row.because, 300)),
        Cell(text=", ".join(name(operation, 40) for operation in row.operations)),
        Cell(text=units.count(row.count), value=row.count),
        Cell(text=show.known(units.size, row.bytes), value=row.bytes),
        _milliseconds(row.transfer_ms),
        _milliseconds(row.wait_ms),
        _milliseconds(row.exposed_ms),
        Cell(text=show.known(units.percent, row.hidden_share), value=row.hidden_share),
    )


def _collective_table(analysis: Analysis) -> Table:
    empty = "No collective was recorded in the analysed steps."
    if analysis.world.size == 1:
        empty = "One rank: nothing to communicate."
    return Table(
        id="collectives",
        caption="Collectives, one row per group, operation, type and size",
        columns=(
            Column(title="Operation"),
            Column(title="Group"),
            Column(title="Type"),
            Column(title="Message size", meaning="collective_bytes", numeric=True),
            Column(title="Ranks", numeric=True),
            Column(title="Calls per step", meaning="collective_count", numeric=True),
            Column(title="Transfer", meaning="transfer_ms", numeric=True),
            Column(title="Wait", meaning="wait_ms", numeric=True),
            Column(title="Exposed", meaning="exposed_ms", numeric=True),
            Column(title="algbw", meaning="algbw", numeric=True),
            Column(title="busbw", meaning="busbw", numeric=True),
            Column(title="Last to arrive", meaning="last_arriver"),
            Column(title="Matched by", meaning="matched_by"),
        ),
        rows=tuple(_collective_row(row) for row in analysis.collectives),
        empty=empty,
        note="All times are per call.",
    )


def _collective_row(row: CollectiveRow) -> tuple[Cell, ...]:
    return (
        Cell(text=name(row.name), foreign=True),
        Cell(text=name(row.group), foreign=True),
        Cell(text=name(row.dtype, 40) or show.NOT_RECORDED),
        Cell(text=show.known(units.size, row.bytes), value=_number(row.bytes)),
        Cell(text=f"{row.ranks}", value=row.ranks),
        Cell(text=units.count(row.count), value=row.count),
        _milliseconds(row.transfer_ms),
        _milliseconds(row.wait_ms),
        _milliseconds(row.exposed_ms),
        _bandwidth(row.algbw_gbyte_per_s),
        _bandwidth(row.busbw_gbyte_per_s),
        _last_arriver(row.last_arriver),
        Cell(text=name(row.matched_by, 40)),
    )


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)


def _milliseconds(value: float | None) -> Cell:
    return Cell(text=show.known(units.milliseconds, value), value=value)


def _bandwidth(value: float | None) -> Cell:
    return Cell(text=show.known(units.bandwidth, value), value=value)


def _last_arriver(counts: dict[str, int]) -> Cell:
    if not counts:
        return Cell(text=show.NOT_RECORDED)
    rank, times = max(counts.items(), key=lambda item: item[1])
    total = sum(counts.values())
    every = ", ".join(f"rank {name(r, 20)}: {n}" for r, n in list(counts.items())[:64])
    return Cell(text=f"rank {name(rank, 20)}, {times} of {total}", value=times / total, hover=every)


def _straggler_table(analysis: Analysis) -> Table:
    return Table(
        id="stragglers",
        caption="Stragglers: ranks that the others wait for",
        columns=(
            Column(title="Rank"),
            Column(title="Busy with"),
            Column(title="Excess per step", meaning="straggler_excess", numeric=True),
            Column(title="Arrives last", meaning="straggler_share", numeric=True),
        ),
        rows=tuple(_straggler_row(s) for s in analysis.stragglers),
        empty="No rank stands out as late.",
    )


def _straggler_row(late: Straggler) -> tuple[Cell, ...]:
    return (
        Cell(text=f"rank {late.rank}", value=late.rank),
        Cell(
            text=name(palette.label(late.class_), 60),
            swatch=late.class_ if late.class_ in palette.CLASSES else "",
        ),
        _milliseconds(late.excess_ms),
        Cell(
            text=f"{units.percent(late.share_of_steps)} of steps",
            value=late.share_of_steps,
            bar=late.share_of_steps,
        ),
    )


def _clock_table(analysis: Analysis) -> Table:
    return Table(
        id="clocks",
        caption="Clocks of the machines",
        columns=(
            Column(title="Clock domain"),
            Column(title="Offset", meaning="clock_offset", numeric=True),
            Column(title="Residual", meaning="clock_residual", numeric=True),
        ),
        rows=tuple(_clock_row(c) for c in analysis.clock),
    )


def _clock_row(clock: Clock) -> tuple[Cell, ...]:
    return (
        Cell(text=name(clock.domain, 80), foreign=True),
        Cell(text=show.known(units.microseconds, clock.offset_us), value=clock.offset_us),
        Cell(text=show.known(units.microseconds, clock.residual_us), value=clock.residual_us),
    )

"""The sections that are tables: collectives and clocks, operators and kernels, stragglers."""

from perfkit import units
from perfkit.analyzers.result import Analysis, Clock, CollectiveRow, OperatorRow, Straggler
from perfkit.report import palette, show
from perfkit.report.model import Block, Cell, Column, Section, Table
from perfkit.report.names import name

MOST_OPERATORS = 60


def communication_section(analysis: Analysis) -> Section | None:
    """Return every kind of collective, the stragglers, and the clocks they were compared on."""
    if not analysis.budget.per_rank and not analysis.collectives:
        return None
    blocks: list[Block] = [_collective_table(analysis)]
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


def compute_section(analysis: Analysis) -> Section | None:
    """Return the operators and kernels that take the most time."""
    if not analysis.operators:
        return None
    rows = sorted(analysis.operators, key=lambda row: -row.ms)
    left_out = len(rows) - MOST_OPERATORS
    note = f"The {MOST_OPERATORS} longest of {len(rows):,}." if left_out > 0 else ""
    table = Table(
        id="operators",
        caption="Operators and kernels by their own time",
        columns=(
            Column(title="Name"),
            Column(title="Kind"),
            Column(title="Calls per step", meaning="op_count", numeric=True),
            Column(title="Time per step", meaning="op_ms", numeric=True),
            Column(title="Share", meaning="op_share", numeric=True),
            Column(title="Commonest shapes", meaning="op_shapes"),
        ),
        rows=tuple(_operator_row(row) for row in rows[:MOST_OPERATORS]),
        note=note,
    )
    return Section(
        id="compute",
        short="Operators",
        title="Operators and kernels",
        lead="Where the compute time itself goes.",
        blocks=(table,),
    )


_KIND_CLASS = {
    "operator": "compute",
    "kernel": "compute",
    "collective": "comm_transfer",
    "copy": "memcpy",
}


def _operator_row(row: OperatorRow) -> tuple[Cell, ...]:
    return (
        Cell(text=name(row.name), foreign=True),
        Cell(text=name(row.kind, 40), swatch=_KIND_CLASS.get(row.kind, "")),
        Cell(text=units.count(row.count), value=row.count),
        _milliseconds(row.ms),
        Cell(text=units.percent(row.share), value=row.share, bar=min(row.share, 1.0)),
        Cell(text=name(row.shapes, 160), foreign=True),
    )

"""Memory on the page: what each rank's allocator held at most, and how it grows."""

from perfkit import units
from perfkit.analyzers.result import Analysis, RankMemory
from perfkit.report import axes, show
from perfkit.report.model import Block, Cell, Column, Line, PlotChart, Section, Table

DRAWN_RANKS = 8


def memory_section(analysis: Analysis) -> Section | None:
    """Return peak and growth of every rank's memory; None where no trace records it."""
    ranks = analysis.memory
    if not ranks:
        return None
    blocks: list[Block] = [_chart(ranks)] if any(len(r.series) > 1 for r in ranks) else []
    return Section(
        id="memory",
        short="Memory",
        title="Memory",
        lead="What torch's allocator held while the profiler ran, or after each step.",
        blocks=(*blocks, _table(ranks)),
    )


def _chart(ranks: tuple[RankMemory, ...]) -> PlotChart:
    drawn = sorted(ranks, key=lambda r: -r.peak_allocated_bytes)[:DRAWN_RANKS]
    drawn = sorted(drawn, key=lambda r: r.rank)
    longest = max(point.at_ms for r in drawn for point in r.series)
    highest = max(max(r.peak_allocated_bytes, r.peak_reserved_bytes) for r in drawn)
    lines = []
    for r in drawn:
        who = f"rank {r.rank}" if len(drawn) > 1 else ""
        for what, dashed in (("allocated", False), ("reserved", True)):
            values = tuple((p.at_ms, float(getattr(p, f"{what}_bytes"))) for p in r.series)
            if any(value for _, value in values):
                lines.append(
                    Line(
                        name=f"{who} {what}".strip(),
                        points=values,
                        key="" if dashed else "compute",
                        dashed=dashed,
                    )
                )
    note = "Each point is the most in its stretch of time. Dashed: reserved from the device."
    if len(drawn) < len(ranks):
        note += f" The {DRAWN_RANKS} ranks with the highest peaks are drawn."
    return PlotChart(
        id="memory-chart",
        caption="Memory over the capture",
        x=axes.linear("time since the first record", longest, units.milliseconds),
        y=axes.linear_sizes("memory", highest),
        lines=tuple(lines),
        note=note,
    )


def _table(ranks: tuple[RankMemory, ...]) -> Table:
    return Table(
        id="memory-table",
        caption="Memory of each rank",
        columns=(
            Column(title="Rank"),
            Column(title="Device"),
            Column(title="Peak allocated", meaning="peak_allocated", numeric=True),
            Column(title="Peak reserved", meaning="peak_reserved", numeric=True),
            Column(title="Retries", meaning="allocator_retries", numeric=True),
            Column(title="Peak in"),
            Column(title="Growth per step", meaning="memory_growth", numeric=True),
        ),
        rows=tuple(_row(r) for r in ranks),
    )


def _row(rank: RankMemory) -> tuple[Cell, ...]:
    growth = rank.growth_bytes_per_step
    reserved = rank.peak_reserved_bytes
    return (
        Cell(text=f"rank {rank.rank}", value=rank.rank),
        Cell(text=rank.device),
        Cell(text=units.size(rank.peak_allocated_bytes), value=rank.peak_allocated_bytes),
        Cell(text=units.size(reserved) if reserved else show.NOT_RECORDED, value=reserved or None),
        _retries(rank),
        Cell(text="outside the steps" if rank.peak_step is None else f"step {rank.peak_step}"),
        Cell(text="cannot tell" if growth is None else units.size(growth), value=growth),
    )


def _retries(rank: RankMemory) -> Cell:
    if rank.retries is None:
        return Cell(text=show.NOT_RECORDED)
    return Cell(text=units.count(rank.retries), value=rank.retries)

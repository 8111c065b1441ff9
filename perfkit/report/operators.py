"""The operators and kernels that take the most time."""

from perfkit import units
from perfkit.analyzers.result import Analysis, OperatorRow
from perfkit.report.model import Cell, Column, Section, Table
from perfkit.report.names import name

MOST_OPERATORS = 60


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
        Cell(text=units.milliseconds(row.ms), value=row.ms),
        Cell(text=units.percent(row.share), value=row.share, bar=min(row.share, 1.0)),
        Cell(text=name(row.shapes, 160), foreign=True),
    )

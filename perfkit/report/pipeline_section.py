"""Pipeline parallelism on the page: the schedule, and its bubble beside the formula's."""

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.report import show
from perfkit.report.model import Cell, Column, Note, Section, Table
from perfkit.report.names import name


def pipeline_section(analysis: Analysis) -> Section | None:
    """Return what is known of the pipeline; None where no pipeline was seen."""
    found = analysis.pipeline
    if found is None:
        return None
    return Section(
        id="pipeline",
        short="Pipeline",
        title="Pipeline",
        lead=show.sentence(name(found.sentence, 400)),
        blocks=(_bubbles(found), Note(text=_basis(found))),
    )


def _bubbles(found: PipelineFacts) -> Table:
    rows = (
        ("of the step (GPipe, zero-bubble)", found.bubble_over_total, found.formula_over_total),
        ("over the computation (Megatron)", found.bubble_over_ideal, found.formula_over_ideal),
    )
    return Table(
        id="pipeline-bubble",
        caption="Bubble, measured and by the schedule's formula",
        columns=(
            Column(title="Counted"),
            Column(title="Measured", numeric=True),
            Column(title="Formula", numeric=True),
        ),
        rows=tuple(
            (Cell(text=what), _share(seen), _share(formula)) for what, seen, formula in rows
        ),
        note="Measured: exposed waiting in sends and receives. The formula assumes equal stages "
        "and free transfers.",
    )


def _share(value: float | None) -> Cell:
    return Cell(text="cannot tell" if value is None else units.percent(value), value=value)


def _basis(found: PipelineFacts) -> str:
    stages = ", ".join(f"stage {s} on rank {rank}" for s, rank in enumerate(found.ranks))
    return show.sentence(f"Read from {name(found.source, 40)}: {name(found.reason, 200)}; {stages}")

"""What is worth trying, and what would gain nothing: replays of the captured steps."""

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_whatif import Prospect, WhatIf
from perfkit.report import palette
from perfkit.report.model import Block, Cell, Column, Note, Section, Table
from perfkit.report.names import name

_PYTHON = "host_python"


def what_if_section(analysis: Analysis) -> Section | None:
    """Return the search's top and its mirror; None where nothing was replayed."""
    found = analysis.what_if
    if found is None:
        return None
    return Section(
        id="what-if",
        short="What if",
        title="What is worth trying",
        lead="The captured steps replayed with one or two things changed. Predicted, not measured.",
        blocks=_blocks(found),
    )


def _blocks(found: WhatIf) -> tuple[Block, ...]:
    if found.refused:
        return (Note(text=f"Nothing is predicted: {name(found.refused, 400)}"),)
    table = Table(
        id="worth-trying",
        caption="Changes by predicted gain",
        columns=(
            Column(title="Change"),
            Column(title="Step", numeric=True),
            Column(title="Expected range"),
            Column(title="Speed-up", numeric=True),
            Column(title="Then bound by"),
            Column(title="Ask for it", prose=True),
            Column(title="Made real by", prose=True),
        ),
        rows=tuple(_row(prospect) for prospect in found.worth_trying),
        empty="No change of those tried gains 1% or more.",
        note="Small changes gain their share of the critical path; large ones less, because the "
        "path moves. `perfkit whatif RUN` says what each answer assumes.",
    )
    return (table, *_trap(found))


def _row(found: Prospect) -> tuple[Cell, ...]:
    leads = found.next_bottleneck or ""
    title = "Python code" if leads == _PYTHON else palette.label(leads)
    expected = f"{units.milliseconds(found.low_ms)} to {units.milliseconds(found.high_ms)}"
    return (
        Cell(text=name(" + ".join(found.changes), 80)),
        Cell(text=units.milliseconds(found.predicted_ms), value=found.predicted_ms),
        Cell(text=expected),
        Cell(text=units.ratio(found.speed_up), value=found.speed_up),
        Cell(text=name(title, 60)),
        Cell(text=f"`perfkit whatif RUN {name(' '.join(found.options), 80)}`"),
        Cell(text=", ".join(f"`perfkit recipes {name(r, 40)}`" for r in found.recipes)),
    )


def _trap(found: WhatIf) -> tuple[Block, ...]:
    if not found.no_gain:
        return ()
    names = ", ".join(name(" + ".join(p.changes), 80) for p in found.no_gain)
    return (
        Note(
            text=f"The optimization trap: these would gain less than 1%, or lose: {names}. What "
            "they shorten is not what the step waits for."
        ),
    )

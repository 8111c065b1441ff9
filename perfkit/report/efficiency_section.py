"""Two further views of the same steps: parallel efficiency, and the critical path over ranks."""

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_replay import Efficiency, EfficiencyFactor, SecondOpinion
from perfkit.report import palette, show
from perfkit.report.model import Block, Cell, Column, Note, Section, Table
from perfkit.report.names import name

_TITLES = {
    "load_balance": "load balance",
    "orchestration": "orchestration",
    "io": "I/O",
    "communication": "communication",
    "serialisation": "serialisation",
    "transfer": "transfer",
}
_HOST_WORK = {"host_python": "Python code"}
"""The replay parts host work finer than the budget does."""

_PARTS = ("serialisation", "transfer")  # whose product is communication


def factor_title(factor: str) -> str:
    """Return a factor of the efficiency tree in words."""
    return _TITLES.get(factor) or name(factor.replace("_", " "), 60)


def efficiency_section(analysis: Analysis) -> Section | None:
    """Return the tree of efficiencies and the second opinion; None where neither was computed."""
    blocks: list[Block] = []
    if analysis.efficiency is not None:
        blocks += _efficiency(analysis.efficiency)
    if analysis.second_opinion is not None:
        blocks += _second_opinion(analysis.second_opinion)
    if not blocks:
        return None
    return Section(
        id="efficiency",
        short="Efficiency",
        title="Parallel efficiency and critical path",
        lead="The same steps seen in two other ways; where they disagree, look closer.",
        blocks=tuple(blocks),
    )


def _efficiency(found: Efficiency) -> list[Block]:
    whole = EfficiencyFactor(
        name="parallel", value=found.parallel, reading="the product of the four factors below"
    )
    table = Table(
        id="efficiency-factors",
        caption="Parallel efficiency: how much of the ranks' time is computing, and why not more",
        columns=(
            Column(title="Factor", meaning="efficiency"),
            Column(title="Value", meaning="efficiency", numeric=True),
            Column(title="What it says"),
        ),
        rows=tuple(_factor_row(factor) for factor in (whole, *found.factors)),
        note=name(f"Communication is not split: {found.split}", 400) if found.split else "",
    )
    return [table]


def _factor_row(factor: EfficiencyFactor) -> tuple[Cell, ...]:
    title = factor_title(factor.name)
    if factor.name in _PARTS:
        title = f"of communication: {title}"
    value = factor.value
    return (
        Cell(text=title),
        Cell(
            text="cannot tell" if value is None else units.percent(value),
            value=value,
            bar=None if value is None else min(value, 1.0),
        ),
        Cell(text=name(factor.reading, 300)),
    )


def _second_opinion(found: SecondOpinion) -> list[Block]:
    if found.refused:
        return [Note(text=f"No critical path: {name(found.refused, 400)}")]
    blocks: list[Block] = [_agreement(found)]
    rows = sorted(found.shares.items(), key=lambda item: -item[1])
    blocks.append(
        Table(
            id="critical-path",
            caption=f"The critical path through {_steps(found)}, over all ranks",
            columns=(
                Column(title="Class"),
                Column(title="Share of the path", meaning="path_share", numeric=True),
            ),
            rows=tuple(_path_row(key, share) for key, share in rows if share > 0),
            note=_path_note(found),
        )
    )
    return blocks


def _steps(found: SecondOpinion) -> str:
    if not found.steps:
        return "the steps"
    return f"steps {found.steps[0]} to {found.steps[-1]}"


def _agreement(found: SecondOpinion) -> Note:
    by = palette.label(found.dominant or "") or "nothing"
    if found.agrees:
        return Note(tone="good", text=f"Second opinion: {by} rules the critical path too.")
    if found.agrees is None:
        return Note(text=f"Second opinion: {by} rules the critical path.")
    return Note(
        tone="warning",
        text=f"Second opinion: {by} rules the critical path, while another family leads by exposed "
        "time. Shortening what is not on the path gains nothing.",
    )


def _path_row(key: str, share: float) -> tuple[Cell, ...]:
    swatch = key if key in palette.CLASSES else "host_launch" if key in _HOST_WORK else ""
    return (
        Cell(text=_HOST_WORK.get(key) or name(palette.label(key), 60), swatch=swatch),
        Cell(text=units.percent(share), value=share, bar=min(share, 1.0)),
    )


def _path_note(found: SecondOpinion) -> str:
    ranks = sorted(found.ranks.items(), key=lambda item: -item[1])[:4]
    where = ", ".join(f"rank {name(r, 12)} {units.percent(share)}" for r, share in ranks)
    notes = [f"The path runs on {where}."] if where else []
    if found.replay_error is not None:
        error = show.known(units.change, found.replay_error or None)
        exact = not round(found.replay_error, 4)
        notes.append(
            "The unmodified replay takes exactly the measured time."
            if exact
            else f"The unmodified replay takes {error} against the measured time."
        )
    return " ".join(notes)

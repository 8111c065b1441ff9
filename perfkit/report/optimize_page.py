"""A search as one offline page: the ledger of what was tried and kept."""

import re

from perfkit import units
from perfkit.recipes.ledger import Attempt, Optimization, Pairs
from perfkit.report import html
from perfkit.report.model import Block, Cell, Column, Note, Page, Section, Table
from perfkit.report.names import name
from perfkit.report.optimize_text import known, measured, numbers, predicted, searched, stopped


def render(found: Optimization, *, light: bool = True) -> str:
    """Return the whole page; `light` leaves plotly out."""
    return html.write(page(found), light=light)


def page(found: Optimization) -> Page:
    """Return what the page shows."""
    return Page(
        title="Recipes · perfkit",
        subtitle=name(found.command, 160),
        version=name(found.perfkit_version, 40),
        sections=sections(found),
    )


def sections(found: Optimization) -> tuple[Section, ...]:
    """Return the sections of a search, for its own page or for a report."""
    return (_recipes(found), _bottlenecks(found), *_changes(found))


def _recipes(found: Optimization) -> Section:
    state = "" if found.complete else "The search is still going on. "
    blocks: list[Block] = [Note(text=f"{state}{found.sentence}{_budget(found)}")]
    if found.resolves is not None and found.resolves > 1.10:
        text = f"This machine is too noisy to see less than {units.percent(found.resolves - 1)}."
        blocks.append(Note(text=text, tone="warning"))
    blocks += [_attempts(found), *_stack(found)]
    return Section(
        id="recipes",
        title="Recipes",
        short="Recipes",
        lead="Ratios are the step without over the step with a recipe (median of the slowest "
        "rank). Limits are 95 %, t on the logarithms of pairs of runs; steps of one run are no "
        "replicates.",
        blocks=tuple(blocks),
    )


def _budget(found: Optimization) -> str:
    spent = f"{units.seconds(found.spent_s)} of {units.seconds(found.budget_s)}"
    return f" Spent: {spent}. {stopped(found) if not found.sentence else ''}".rstrip()


def _attempts(found: Optimization) -> Table:
    titles = ("Recipe", "Decision", "Measured", "Predicted", "Losses", "Memory", "Class", "Reason")
    return Table(
        id="attempts",
        caption="What was tried",
        columns=tuple(Column(title=t, prose=t == "Reason") for t in titles),
        rows=tuple(_row(attempt) for attempt in found.attempts),
        empty="Nothing has been tried yet.",
    )


def _row(attempt: Attempt) -> tuple[Cell, ...]:
    forecast, pairs = attempt.forecast, attempt.measured
    memory = attempt.memory_ratio
    return (
        Cell(text=name(attempt.label, 60), hover=name(attempt.title, 100)),
        Cell(text=attempt.decision.replace("_", " ")),
        Cell(
            text="" if pairs is None else measured(pairs),
            value=None if pairs is None else pairs.ratio,
            hover="" if pairs is None else _runs(pairs),
        ),
        Cell(
            text="" if attempt.decision == "refused" else predicted(forecast) + known(forecast),
            value=forecast.expected,
            hover=name(forecast.why, 200),
        ),
        Cell(text=numbers(attempt)),
        Cell(text="" if memory is None else units.ratio(memory), value=memory),
        Cell(text=attempt.numerics),
        Cell(text=name(_reason(attempt), 300)),
    )


def _reason(attempt: Attempt) -> str:
    tried = f"searched: {searched(attempt)}" if attempt.searched else ""
    left = attempt.measured.disturbed if attempt.measured is not None else ()
    out = f"{len(left)} pairs left out because the load by others changed" if left else ""
    return "; ".join(text for text in (attempt.reason, out, tried) if text)


def _runs(pairs: Pairs) -> str:
    """Return every pair of runs, and what other programs used of the processors meanwhile."""
    shown = []
    for number, (base, variant) in enumerate(zip(pairs.base_ms, pairs.variant_ms, strict=True)):
        text = f"{base:.1f} -> {variant:.1f} ms"
        others = pairs.others[number] if pairs.others else (None, None)
        if others[0] is not None and others[1] is not None:
            text += f" (others {units.percent(others[0])}, {units.percent(others[1])})"
        shown.append(text)
    return ", ".join(shown)


def _stack(found: Optimization) -> list[Block]:
    if not found.stack:
        return []
    rows = []
    if found.confirmation is not None:
        rows.append((Cell(text="all, against the original"),
                     Cell(text=measured(found.confirmation)),
                     Cell(text="confirmed" if found.confirmed else "not confirmed")))  # fmt: skip
    for one in found.ablations:
        shown = "" if one.measured is None else measured(one.measured)
        rows.append((Cell(text=f"{name(one.label, 60)}, against the others alone"),
                     Cell(text=shown), Cell(text=name(one.reason, 200))))  # fmt: skip
    return [
        Table(
            id="stack",
            caption="What was kept, on fresh runs",
            columns=(Column(title="Recipes"), Column(title="Measured"), Column(title="Outcome")),
            rows=tuple(rows),
        )
    ]


def _bottlenecks(found: Optimization) -> Section:
    rows = tuple(
        (
            Cell(text=name(" + ".join(d.stack), 120) or "as it was"),
            Cell(text=units.milliseconds(d.step_ms), value=d.step_ms),
            Cell(text=d.label),
            Cell(text=d.dominant),
            Cell(text=name(", ".join(d.findings), 200)),
        )
        for d in found.diagnosed
    )
    titles = ("Recipes", "Step", "Bound by", "Mostly", "Findings")
    return Section(
        id="bottlenecks",
        title="How the bottleneck moved",
        short="Bottleneck",
        lead="After each recipe that was kept the training was traced and judged again.",
        blocks=(
            Table(
                id="diagnosed",
                caption="Verdicts",
                columns=tuple(Column(title=t, numeric=t == "Step") for t in titles),
                rows=rows,
                empty="Not diagnosed yet.",
            ),
        ),
    )


def _changes(found: Optimization) -> tuple[Section, ...]:
    if not found.changes:
        return ()
    tables = tuple(
        Table(
            id=f"change-{number}",
            caption=name(change.label, 60),
            columns=(Column(title="Diff" if change.is_diff else "Change"),),
            rows=tuple(
                (Cell(text=_code(line), foreign=True),) for line in change.text.splitlines()
            ),
            note=f"{change.label.partition(':')[0]}.patch lies beside optimize.json, for git apply."
            if change.is_diff
            else "",
        )
        for number, change in enumerate(found.changes, 1)
    )
    return (
        Section(
            id="changes",
            title="Make it permanent",
            short="Changes",
            lead="What to change in the script, so that the gain stays without perfkit.",
            blocks=tables,
        ),
    )


def _code(line: str) -> str:
    """Keep a line's indent, which a page would drop, also behind the sign of a diff."""
    return re.sub(r"^ | {2,}", lambda m: "\N{NO-BREAK SPACE}" * len(m[0]), name(line, 200))

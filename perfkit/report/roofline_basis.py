"""What a roofline rests on: ceilings, conventions of counting, findings, what it lacks."""

from perfkit import units
from perfkit.report import show
from perfkit.report.model import Cell, Column, Fact, Note, Table
from perfkit.report.names import name
from perfkit.roofline.summary import RunRoofline, UsedCeiling

MOST_UNCOSTED = 20
MOST_NOTES = 2
"""Findings told as notes; more of them make a table."""

CONVENTIONS = {
    "executed": "executed (HFU)",
    "operators": "model FLOP (MFU)",
    "palm": "PaLM (MFU)",
    "megatron-causal": "Megatron, causal (MFU)",
    "6N": "6 x parameters x tokens",
}
"""What each way of counting FLOP is called in front of people."""

_TILES = ("operators", "executed")


def utilization_facts(found: RunRoofline) -> list[Fact]:
    """Return the utilization by the FLOP of the captured operators."""
    return [
        Fact(
            name=f"Utilization, {CONVENTIONS[entry.convention]}",
            text=units.percent(entry.share),
            meaning="utilization",
            note="of the peak, over the whole step",
        )
        for entry in found.utilization
        if entry.convention in _TILES
    ]


def utilization_table(found: RunRoofline) -> Table:
    """Return the utilization by every convention, with what it counts and against which peak."""
    rows = tuple(
        (
            Cell(text=CONVENTIONS.get(entry.convention, name(entry.convention, 40))),
            Cell(text=units.percent(entry.share), value=entry.share, bar=min(entry.share, 1.0)),
            Cell(text=f"{units.count(entry.flop_per_step)}FLOP", value=entry.flop_per_step),
            Cell(text=units.flops(entry.peak_flop_per_s), value=entry.peak_flop_per_s),
            Cell(text=name(entry.counts, 400)),
            Cell(text=name(entry.peak_source, 200)),
        )
        for entry in found.utilization
    )
    return Table(
        id="utilization",
        caption="Utilization of the peak, by what is counted",
        columns=(
            Column(title="Convention", meaning="utilization"),
            Column(title="Utilization", meaning="utilization", numeric=True),
            Column(title="Per step, all ranks", meaning="counted_flop", numeric=True),
            Column(title="Peak, all ranks", meaning="ceiling", numeric=True),
            Column(title="What is counted"),
            Column(title="Peak from"),
        ),
        rows=rows,
    )


def findings(found: RunRoofline) -> list[Note]:
    """Return findings as notes; many of operators are one note that points to their table."""
    told = _told_once(found)
    if len(told) > MOST_NOTES:
        whole = [text for text in told if not _is_of_operator(text)]
        rest = len(told) - len(whole)
        listed = f"{show.plural(rest, 'operator')} above their ceilings: they are listed below."
        told = [*whole, listed] if rest else whole
    return [Note(text=text, tone="warning") for text in told]


def findings_table(found: RunRoofline) -> Table:
    """Return every finding."""
    return Table(
        id="roofline-findings",
        caption="What does not fit its ceiling",
        columns=(Column(title="Finding"),),
        rows=tuple((Cell(text=text),) for text in _told_once(found)),
    )


def has_many_findings(found: RunRoofline) -> bool:
    """Return whether the findings need a table of their own."""
    return len(_told_once(found)) > MOST_NOTES


def _told_once(found: RunRoofline) -> list[str]:
    """Return findings, those of one operator on several ranks told once."""
    groups: dict[str, list[str]] = {}
    for text in found.findings:
        groups.setdefault(_kind(text), []).append(text)
    return [
        name(group[0], 600) + (f"; {len(group) - 1} more like this" if len(group) > 1 else "")
        for group in groups.values()
    ]


def _is_of_operator(text: str) -> bool:
    """Return whether a finding speaks of one operator; others speak of the step or of the run."""
    return " reached " in text


def _kind(text: str) -> str:
    """Return what findings have in common that are told once: operator, ranks, utilization."""
    if _is_of_operator(text):
        return text.partition(" reached ")[0]
    return text.partition(" ")[0]


def ceiling_table(found: RunRoofline) -> Table:
    """Return the ceilings that were used and where they come from."""
    rows = tuple(
        (
            Cell(text=f"{c.quantity} {c.precision}".strip()),
            Cell(text=ceiling_value(c), value=c.value),
            Cell(text=name(c.source, 300)),
        )
        for c in found.ceilings
    )
    return Table(
        id="ceilings",
        caption="Ceilings used",
        columns=(
            Column(title="Ceiling"),
            Column(title="Value", meaning="ceiling", numeric=True),
            Column(title="Where it comes from"),
        ),
        rows=rows,
    )


def ceiling_value(entry: UsedCeiling) -> str:
    """Return a ceiling's value in the unit that it has."""
    if entry.unit == "s":
        return units.seconds(entry.value)
    return (
        units.bandwidth(entry.value / 1e9) if entry.unit == "bytes/s" else units.flops(entry.value)
    )


def uncosted_table(found: RunRoofline) -> Table:
    """Return what took time and has no formula, with its share of all operators' time."""
    total = sum(entry.time_ns for entry in found.uncosted)
    unknown = 1.0 - (found.costed_share or 0.0)
    rows = []
    for entry in found.uncosted[:MOST_UNCOSTED]:
        share = entry.time_ns / total * unknown if total else 0.0
        rows.append(
            (
                Cell(text=name(entry.name, 160), foreign=True),
                Cell(text=name(entry.kind, 40)),
                Cell(text=units.percent(share), value=share, bar=min(share, 1.0)),
                Cell(text=name(entry.why, 160)),
            )
        )
    left_out = len(found.uncosted) - MOST_UNCOSTED
    return Table(
        id="uncosted",
        caption="Operators and kernels without a known cost",
        columns=(
            Column(title="Name"),
            Column(title="Kind"),
            Column(title="Share", meaning="uncosted_share", numeric=True),
            Column(title="Why"),
        ),
        rows=tuple(rows),
        note=f"{show.plural(left_out, 'shorter one')} not shown." if left_out > 0 else "",
    )


def limits_table(found: RunRoofline) -> Table:
    """Return what is missing, why, and what would bring it."""
    rows = tuple(
        (Cell(text=name(c.claim)), Cell(text=name(c.why)), Cell(text=name(c.remedy)))
        for c in found.cannot_tell
    )
    return Table(
        id="roofline-limits",
        caption="What the roofline lacks here",
        columns=(
            Column(title="Missing"),
            Column(title="Why"),
            Column(title="What would bring it", prose=True),
        ),
        rows=rows,
    )

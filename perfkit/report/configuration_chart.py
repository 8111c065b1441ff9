"""Where the configuration sits against the network's ridge, and how more ranks move the ridge."""

from collections.abc import Sequence

from perfkit import units
from perfkit.report import axes
from perfkit.report.model import Dot, Dots, Line, PlotChart
from perfkit.report.names import name
from perfkit.report.show import plural
from perfkit.roofline.closed_form import TOKENS, WORK, ClosedForm
from perfkit.roofline.step import INTRA
from perfkit.roofline.summary import RunRoofline

_MEANING = {
    "ddp": "Replicated (DDP)",
    "zero": "Sharded gradients (ZeRO)",
    "fsdp": "Fully sharded (FSDP)",
    "tensor": "Tensor parallel",
}


def configuration_charts(found: RunRoofline) -> tuple[PlotChart, ...]:
    """Return one chart per group whose kind of parallelism and network ceilings are known."""
    groups: dict[tuple[str, str], list[ClosedForm]] = {}
    for form in found.closed_forms:
        groups.setdefault((form.kind, form.group), []).append(form)
    return tuple(_chart(index, forms) for index, forms in enumerate(groups.values()))


def _chart(index: int, forms: Sequence[ClosedForm]) -> PlotChart:
    first = forms[0]
    label = units.ratio if first.quantity == WORK else units.count
    heights = [first.now] + [value for form in forms for _, value in form.curve]
    ranks = [float(n) for form in forms for n, _ in form.curve] + [float(first.ranks)]
    return PlotChart(
        id=f"configuration-chart-{index}",
        caption=f"{_MEANING[first.kind]}: {first.quantity} that the network needs",
        x=axes.decades("ranks of the group", ranks, units.count),
        y=axes.decades(_title(first), heights, label),
        dots=(_here(first, label),),
        lines=tuple(
            Line(
                name=f"ridge over {form.level} links",
                points=tuple((float(n), value) for n, value in form.curve),
                dashed=form.critical is None,
            )
            for form in forms
            if len(form.curve) > 1
        ),
        note=_note(forms),
    )


def _title(form: ClosedForm) -> str:
    return f"{form.quantity}, now = 1" if form.quantity == WORK else form.quantity


def _here(form: ClosedForm, label: axes.Label) -> Dots:
    where = f"group {name(form.group, 40)}" if form.group else "this run"
    hover = f"{where}: {plural(form.ranks, 'rank')}\n{form.quantity}: {label(form.now)}"
    hover += f"\nridge: {label(form.critical)}" if form.critical is not None else ""
    dot = Dot(x=float(form.ranks), y=form.now, radius=8.0, hover=hover)
    return Dots(name="this configuration", key="limit-network", shape="diamond", dots=(dot,))


def _note(forms: Sequence[ClosedForm]) -> str:
    first = forms[0]
    text = "Above a line computing takes longer, below it the network does. "
    if first.limit is None:
        text += "The line rises with every rank. "
    elif first.quantity in (TOKENS, WORK):
        text += "The line flattens: beyond a few dozen ranks more of them change little. "
    if any(form.critical is None for form in forms):
        text += "Dashed: a level that the group would use on more nodes like these. "
    elif all(form.level == INTRA for form in forms):
        text += "More nodes are not drawn: no bandwidth between nodes was measured. "
    return text + f"Assumed: {first.assumed}."

"""Shows measured ceilings and a run's roofline in a terminal."""

from collections.abc import Iterable, Sequence

from perfkit import units
from perfkit.roofline.ceilings import Ceiling, Ceilings, threads_in_words
from perfkit.roofline.closed_form import WORK, ClosedForm
from perfkit.roofline.place import Point
from perfkit.roofline.step import Pair, StepRoofline
from perfkit.roofline.summary import RunRoofline, UsedCeiling

TOP = 12
UNCOSTED = 6
FINDINGS = 8

_SHOWN = {
    "matrix": "matrix products",
    "vector": "vector arithmetic",
    "copy": "memory copy",
    "triad": "memory triad",
    "launch": "one launch",
    "h2d": "host to device",
    "d2h": "device to host",
    "storage_sequential": "storage, in order",
    "storage_random": "storage, random",
}


def ceilings(found: Ceilings) -> str:
    """Measured ceilings as a table with the way each was measured."""
    machine = found.machine
    title = f"Ceilings of {machine.device_name} ({machine.device_kind}, torch {machine.torch}"
    title += f", {threads_in_words(machine.threads)})" if machine.device_kind == "cpu" else ")"
    rows = [(_name(entry), _value(entry), entry.method) for entry in found.ceilings]
    for row in found.network:
        name = f"{row.collective}, {row.ranks} ranks"
        value = f"{units.bandwidth(row.bus_bytes_per_s / 1e9)} + {units.seconds(row.alpha_s)}"
        rows.append((name, value, row.method))
    lines = [title, *_table(rows)]
    for other in found.other_threads:
        lines += ["", f"The same with {threads_in_words(other.threads)}"]
        lines += _table((_name(entry), _value(entry), entry.method) for entry in other.ceilings)
    lines += [""] * bool(found.warnings) + [f"Warning: {text}" for text in found.warnings]
    return "\n".join(lines)


def _name(entry: Ceiling) -> str:
    return " ".join(filter(None, (_SHOWN.get(entry.quantity, entry.quantity), entry.precision)))


def _value(entry: Ceiling | UsedCeiling) -> str:
    if entry.unit == "s":
        return units.seconds(entry.value)
    if entry.unit == "bytes/s":
        return units.bandwidth(entry.value / 1e9)
    return units.flops(entry.value)


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the columns aligned, two blanks apart; the last column is left as it is."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        + "  " + row[-1]
        for row in rows
    ]  # fmt: skip


def run(found: RunRoofline, *, width: int) -> str:
    """A run's roofline: ceilings, operators with most time above their roof, bounds of the step."""
    parts = [
        _head(found),
        _section("Ceilings", _table(_used(found.ceilings))),
        _section(
            "Time above the roof, per step (mean over ranks)", _table(_points(found.points, width))
        ),
        _section("No cost known", _table(_uncosted(found))),
        _section("Modules, per step", _table(_modules(found))),
        _section("The step against its bounds", _steps(found.ranks)),
        _section("Parallelism", _table(_parallelism(found))),
        _section("Network", _network(found)),
        _section("Utilization", _table(_utilization(found))),
        _section("Findings", _findings(found)),
        _section("Cannot tell", _cannot_tell(found)),
    ]
    return "\n\n".join(filter(None, parts))


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *lines]) if lines else ""


def _head(found: RunRoofline) -> str:
    device = found.device_name or found.device_kind.upper()
    ranks = f"{len(found.analysed_ranks)} of {found.world_size} ranks"
    share = units.percent(found.costed_share)
    return f"Roofline of {ranks} on {device}: {share} of the operators' time has a known cost"


def _used(entries: Iterable[UsedCeiling]) -> Iterable[tuple[str, str, str]]:
    for entry in entries:
        name = " ".join(filter(None, (entry.quantity, entry.precision)))
        yield name, _value(entry), entry.source


def _points(points: Sequence[Point], width: int) -> Iterable[tuple[str, ...]]:
    placed = [point for point in points if point.bound_s is not None] or list(points)
    if placed:
        yield "above", "time", "of roof", "bound by", "achieved", "calls", "operator"
    room = max(width - 66, 24)
    for point in placed[:TOP]:
        operator = f"{point.name.removeprefix('aten::')} {point.dims}"
        if point.recomputed:
            operator = f"(again) {operator}"
        yield (
            units.seconds(point.above_roof_s),
            units.seconds(point.time_s),
            units.percent(point.attained),
            f"{point.limit or '-'}{', cached' if point.cache_resident else ''}",
            _achieved(point),
            units.number(point.calls),
            operator if len(operator) <= room else operator[: room - 3] + "...",
        )


def _achieved(point: Point) -> str:
    if point.limit in ("tensor", "vector") or (point.limit is None and point.unit == "tensor"):
        return units.flops(point.achieved_flop_per_s)
    return units.bandwidth(point.achieved_bytes_per_s / 1e9)


def _uncosted(found: RunRoofline) -> Iterable[tuple[str, str, str]]:
    share = found.costed_share or 0.0
    all_ns = sum(entry.time_ns for entry in found.uncosted)
    for entry in found.uncosted[:UNCOSTED]:
        yield units.percent(entry.time_ns / all_ns * (1 - share)), entry.name[:60], entry.why
    rest = found.uncosted[UNCOSTED:]
    if rest:
        left = sum(entry.time_ns for entry in rest) / all_ns * (1 - share)
        yield units.percent(left), f"{len(rest)} more", "listed in the page and by --json"


def _modules(found: RunRoofline) -> Iterable[tuple[str, str, str]]:
    for module in found.modules[:UNCOSTED]:
        name = module.name.removeprefix("nn.Module: ")
        held = "no roof known"
        if module.attained is not None:
            held = f"{units.percent(module.attained)} of its roof"
        yield units.seconds(module.time_s), held, name


def _steps(ranks: Sequence[StepRoofline]) -> list[str]:
    lines = []
    for step in ranks[:8]:
        bound = f", bound by {step.limit}" if step.limit else ""
        lines.append(f"  rank {step.rank}: measured {units.seconds(step.step_s)} a step{bound}")
        lines += [_pair(pair) for pair in (step.ceilings, step.measured) if pair.lowest_s]
    if len(ranks) > 8:
        lines.append(f"  and {len(ranks) - 8} more ranks")
    return lines


def _pair(pair: Pair) -> str:
    text = f"    from {pair.compute_from}: at least {units.seconds(pair.lowest_s)}"
    if pair.compute_s is None:
        return text + " for the network alone, no ceiling of computing"
    if pair.highest_s is None:
        return text + ", the network's time is not known"
    text += f", without overlap {units.seconds(pair.highest_s)}"
    if pair.overlap is not None:
        quality, raw = pair.overlap.clipped, pair.overlap.raw
        shown = f" (raw {raw:.2f})" if abs(raw - quality) > 0.005 else ""
        text += f"; overlap quality {quality:.2f}{shown}"
    return text


def _network(found: RunRoofline) -> list[str]:
    lines = []
    for row in found.network:
        text = f"  {row.level}: {units.number(row.intensity)} FLOP per bus byte"
        if row.ridge is not None and row.work_factor is not None:
            side = "below" if row.work_factor > 1 else "past"
            text += f", {side} the ridge at {units.number(row.ridge)}"
            text += f": with {units.ratio(row.work_factor)} the work per rank it would lie there"
        lines.append(text)
    return lines + [line for form in found.closed_forms for line in _closed_form(form)]


def _parallelism(found: RunRoofline) -> Iterable[tuple[str, str, str]]:
    for group in found.parallelism:
        kind = group.kind or "cannot tell"
        yield kind, f"group {group.group or '-'} of {group.ranks} ranks", group.because


def _closed_form(form: ClosedForm) -> list[str]:
    """Where a kind of parallelism sits on a level, its ridge, and what more ranks do to it."""
    shown = units.ratio if form.quantity == WORK else units.count
    now = f"now {shown(form.now)}"
    if form.critical is None:
        ridge = f"with {2 * form.ranks} ranks over {form.level} links the ridge is at "
        ridge += shown(form.critical_doubled)
    else:
        side = "past" if form.now >= form.critical else "below"
        ridge = f"{side} the ridge at {shown(form.critical)}"
        ridge += f", at {shown(form.critical_doubled)} with {2 * form.ranks} ranks"
    most = f"at most {shown(form.limit)}" if form.limit is not None else "growing without end"
    head = f"  {form.kind} over {form.ranks} ranks, {form.level}: {form.quantity}, {now}, {ridge}"
    return [f"{head}, {most} with any number ({form.assumed})"]


def _utilization(found: RunRoofline) -> Iterable[tuple[str, str, str]]:
    for entry in found.utilization:
        yield units.percent(entry.share), entry.convention, f"{entry.counts}; {entry.peak_source}"


def _findings(found: RunRoofline) -> list[str]:
    """One line an operator: the first of its findings, and how many are like it."""
    groups: dict[str, list[str]] = {}
    for text in found.findings:
        groups.setdefault(text.partition(" (")[0], []).append(text)
    lines = []
    for alike in list(groups.values())[:FINDINGS]:
        more = f"; {len(alike) - 1} more of this operator" if len(alike) > 1 else ""
        lines.append(f"  {alike[0]}{more}")
    left_out = len(groups) - FINDINGS
    return lines + [f"  and of {left_out} more operators: see --json"] * (left_out > 0)


def _cannot_tell(found: RunRoofline) -> list[str]:
    return [f"  {entry.claim}: {entry.why}; {entry.remedy}" for entry in found.cannot_tell]

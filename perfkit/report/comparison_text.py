"""Shows a comparison of runs in a terminal, or as Markdown for a GitHub summary or comment."""

from collections.abc import Iterable, Sequence

from perfkit import units
from perfkit.analyzers.comparison import Comparison, Gate, Row, Speed
from perfkit.report import palette
from perfkit.report.names import name

MOST_ROWS = 8
NOT_LISTED = "not listed"
_OUTCOMES = {"passed": "passed", "failed": "failed", "cannot_tell": "not decided"}
_MARKS = {"passed": ":white_check_mark:", "failed": ":x:", "cannot_tell": ":grey_question:"}


def terminal(found: Comparison) -> str:
    """Return the comparison as lines for a terminal."""
    lines = [found.sentence + ".", ""]
    if found.gate is not None:
        lines += [gate(found.gate, found.speed), ""]
    lines += _aligned(_HEAD, [_speed(s) for s in found.speed])
    for title, rows in _tables(found):
        if rows:
            lines += ["", *_aligned((title, *_ROW_HEAD), [_row(row) for row in rows])]
    return "\n".join([*lines, *_remarks(found, "")])


def github(found: Comparison) -> str:
    """Return the comparison as Markdown; names from captures are code and cannot be markup."""
    lines = [f"### perfkit compare: {found.verdict.replace('_', ' ')}", "", found.sentence + "."]
    if found.gate is not None:
        lines += ["", f"{_MARKS[found.gate.outcome]} {gate(found.gate, found.speed)}"]
    lines += ["", *_markdown(_HEAD, [_speed(s) for s in found.speed])]
    for title, rows in _tables(found):
        if rows:
            shown = [(_code(cells[0]), *cells[1:]) for cells in map(_row, rows)]
            lines += ["", *_markdown((title, *_ROW_HEAD), shown)]
    return "\n".join([*lines, *_remarks(found, "- ")])


def gate(found: Gate, speed: Sequence[Speed] = ()) -> str:
    """Return what the gate asked, how it ended and, of what it let pass, what it could not see."""
    allowed = units.percent(found.max_slowdown)
    if found.lower_limit is None:
        return (
            f"Gate: not decided; a slow-down of more than {allowed} can be neither shown nor "
            "ruled out"
        )
    limit = units.change(found.lower_limit)
    ended = (
        f"Gate: {_OUTCOMES[found.outcome]}; the lower 95 % limit of the change is {limit} "
        f"({found.measure}), {allowed} is allowed"
    )
    most = max((s.high - 1 for s in speed if s.high is not None), default=0.0)
    if found.outcome != "passed" or most <= found.max_slowdown:
        return ended
    return f"{ended}; a slow-down of up to {units.percent(most)} is not ruled out: more runs tell"


_HEAD = ("", "base", "new", "change", "95 % interval")
_ROW_HEAD = ("base", "new", "change", "")


def _tables(found: Comparison) -> Iterable[tuple[str, Sequence[Row]]]:
    yield "Class (per step, before blame)", _moved(found.classes)
    yield "Operator or kernel (per step)", _moved(found.operators)
    yield "Rank (traced step)", found.ranks[:MOST_ROWS]


def _moved(rows: Sequence[Row]) -> list[Row]:
    """Return the largest changes, then what only one side lists."""
    both = [r for r in rows if r.change_ms]
    one = sorted(
        (r for r in rows if r.change_ms is None and (r.base_ms or r.new_ms)),
        key=lambda r: -max(r.base_ms or 0.0, r.new_ms or 0.0),
    )
    return (both + one)[:MOST_ROWS]


def _speed(speed: Speed) -> tuple[str, ...]:
    interval = "cannot tell"
    if speed.low is not None and speed.high is not None:
        interval = f"{units.change(speed.low - 1)} to {units.change(speed.high - 1)}"
    runs = f" (runs: {len(speed.base_ms)} and {len(speed.new_ms)})"
    return (
        speed.measure + runs,
        units.milliseconds(speed.base_mean_ms),
        units.milliseconds(speed.new_mean_ms),
        units.change(speed.ratio - 1),
        interval,
    )


def _row(row: Row) -> tuple[str, ...]:
    label = palette.CLASSES[row.name].label if row.name in palette.CLASSES else name(row.name, 60)
    remark = {True: "stands out", False: "within noise", None: ""}[row.changed]
    if row.mostly and row.mostly_ms:
        cause = f"mostly {palette.label(row.mostly)} {_signed(row.mostly_ms)}"
        remark = ", ".join(t for t in (remark, cause) if t)
    return (
        label,
        NOT_LISTED if row.base_ms is None else units.milliseconds(row.base_ms),
        NOT_LISTED if row.new_ms is None else units.milliseconds(row.new_ms),
        _signed(row.change_ms),
        remark,
    )


def _signed(ms: float | None) -> str:
    if ms is None:
        return ""
    return ("+" if ms > 0 else "") + units.milliseconds(ms)


def _remarks(found: Comparison, bullet: str) -> list[str]:
    lines = []
    if found.findings_new:
        lines.append(f"{bullet}New findings: {', '.join(found.findings_new)}")
    if found.findings_gone:
        lines.append(f"{bullet}Findings gone: {', '.join(found.findings_gone)}")
    lines += [f"{bullet}Note: {name(note, 400)}" for note in found.notes]
    return ["", *lines] if lines else []


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i in (0, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [_cells(head), _cells(["---", *["---:"] * (len(head) - 2), "---"])]
    return lines + [_cells(row) for row in rows]


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

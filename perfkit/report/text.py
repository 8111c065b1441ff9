"""The verdict for a terminal: at most one screen of 24 lines, whatever the run holds."""

import textwrap

from perfkit import units
from perfkit.analyzers.result import Analysis, RankBudget, Verdict
from perfkit.report import commands, overview, palette, show
from perfkit.report.names import cells, fit, name, visible

LINES = 23
"""Lines of the summary at most: a screen of 24 less the next prompt."""

NARROWEST = 40
"""Columns that a line may always take; a narrower terminal wraps."""

_INDENT = 9
_FINDINGS = 3


def render(
    analysis: Analysis, *, width: int, color: bool, report_path: str, run_path: str = ""
) -> str:
    """Return the summary: verdict, why, what next, how far to trust it, where the report is.

    Args:
        analysis: what to summarise.
        width: columns of the terminal.
        color: whether ANSI colours may be used; the caller honours NO_COLOR.
        report_path: the HTML page, "" where none was written.
        run_path: the run's folder, "" where other commands cannot be given one.

    """
    page = _Screen(max(width, NARROWEST), color)
    verdict = _verdict(page, analysis)
    tail = [*_quality(page, analysis), *_where(page, analysis, report_path, run_path)]
    # What does not fit on one screen goes in this order: bars, then the lines under findings.
    for bars, findings in ((4, 6), (3, 6), (2, 6), (2, 4), (1, 2)):
        why, then = _why(page, analysis, bars), _next(page, analysis)[:findings]
        lines = [*verdict, "", *why, "", *then, "", *tail]
        if len(lines) <= LINES:
            break
    return "\n".join(lines) + "\n"


class _Screen:
    """Places text in columns, with colours where they are wanted."""

    def __init__(self, width: int, color: bool) -> None:
        self.width = width
        self.color = color

    def paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text

    def strong(self, text: str) -> str:
        return self.paint("1", text)

    def faint(self, text: str) -> str:
        return self.paint("2", text)

    def wrap(self, text: str, most: int, indent: int = 0) -> list[str]:
        """Return `text` in at most `most` lines of the screen's width, cut with an ellipsis."""
        room = self.width - indent
        lines = textwrap.wrap(visible(text), room, break_on_hyphens=False) or [""]
        lines = [part for line in lines for part in _split_wide(line, room)]
        if len(lines) > most:
            lines = [*lines[: most - 1], fit(f"{lines[most - 1]} {lines[most]}", room)]
        return [" " * indent + line for line in lines]

    def labelled(self, label: str, text: str, most: int) -> list[str]:
        """Return `text` beside a label that stands alone in the first column."""
        lines = self.wrap(text, most, _INDENT)
        return [self.strong(label.ljust(_INDENT)) + lines[0][_INDENT:], *lines[1:]]


def _split_wide(line: str, room: int) -> list[str]:
    """Split a line that holds wide characters and so takes more columns than letters."""
    parts = []
    while cells(line) > room:
        taken = len(line)
        while cells(line[:taken]) > room:
            taken -= 1
        parts.append(line[:taken])
        line = line[taken:]
    return [*parts, line]


def _verdict(page: _Screen, analysis: Analysis) -> list[str]:
    verdict = analysis.verdict
    confidence = overview.confidence(analysis)
    sure = [f"{confidence} confident"] if confidence else []
    if sure and verdict.mixed_of:  # sure of who leads, not of the mixture
        sure = [f"{palette.label(verdict.mixed_of[0])} leads in {confidence} of redraws"]
    sure += ["tentative"] if verdict.tentative else []
    title = overview.badge(verdict)
    heading = f"perfkit: {title}" + (f" ({', '.join(sure)})" if sure else "")
    heading = fit(heading, page.width)
    head, separator, rest = heading.partition(title)
    colour = palette.TERMINAL.get(verdict.label, ("", "1"))[1]
    lines = [page.strong(head) + page.paint(f"1;{colour}", separator) + page.strong(rest)]
    lines += page.wrap(show.sentence(verdict.sentence), 4)
    if verdict.tentative:
        lines += [line for doubt in overview.doubts(analysis)[:1] for line in page.wrap(doubt, 2)]
    return lines


def _why(page: _Screen, analysis: Analysis, bars: int) -> list[str]:
    budgets = _picked(analysis, bars)
    if not budgets:
        return page.labelled("Why", "no step was profiled, so there is no budget", 1)
    longest = max(b.window_ms for b in analysis.budget.per_rank)
    lines = [page.strong("Why".ljust(_INDENT)) + fit(_caption(analysis), page.width - _INDENT)]
    lines += [_bar(page, budget, longest) for budget in budgets]
    left = len(analysis.budget.per_rank) - len(budgets)
    if left > 0:
        left_out = f"and {show.plural(left, 'more rank')}; the latest and slowest are shown"
        lines.append(" " * _INDENT + page.faint(fit(left_out, page.width - _INDENT)))
    return lines + _legend(page, analysis)


def _caption(analysis: Analysis) -> str:
    steps = show.plural(analysis.steps.analysed, "step")
    return f"mean step of each rank over {steps}, before blame"


def _picked(analysis: Analysis, most: int) -> list[RankBudget]:
    """Return the ranks with a bar: late ones first, then the longest windows; in rank order."""
    late = {s.rank for s in analysis.stragglers} | _most_waited_for(analysis.verdict)
    ranked = sorted(
        analysis.budget.per_rank, key=lambda b: (b.rank not in late, -b.window_ms, b.rank)
    )
    return sorted(ranked[:most], key=lambda b: b.rank)


def _most_waited_for(verdict: Verdict) -> set[int]:
    waited: dict[int, float] = {}
    for blame in verdict.blame:
        if blame.rank >= 0:
            waited[blame.rank] = waited.get(blame.rank, 0.0) + blame.ms
    return {max(waited, key=lambda rank: waited[rank])} if waited else set()


def _bar(page: _Screen, budget: RankBudget, longest: float) -> str:
    label = fit(f"rank {budget.rank}", _INDENT - 1).ljust(_INDENT)
    total = units.milliseconds(budget.window_ms).rjust(8)
    room = page.width - _INDENT - len(total) - 1
    drawn, reached, spent = "", 0, 0.0
    for family in palette.FAMILIES:
        spent += _family_ms(budget, family)
        edge = round(spent / longest * room) if longest > 0 else 0
        glyph, colour = palette.TERMINAL[family]
        drawn += page.paint(colour, glyph * (edge - reached))
        reached = max(edge, reached)
    return label + drawn + " " * (room - reached + 1) + total


def _family_ms(budget: RankBudget, family: str) -> float:
    times = ((k, t) for k, t in budget.classes.items() if t is not None)
    return sum(t.ms for k, t in times if palette.FAMILY_OF.get(k) == family)


def _legend(page: _Screen, analysis: Analysis) -> list[str]:
    """Return the families with their shares and, in brackets, what each mostly is."""
    entries = []
    for family, share in analysis.budget.rollup.items():
        if family not in palette.TERMINAL or share <= 0:
            continue
        glyph, colour = palette.TERMINAL[family]
        text = f"{palette.label(family)} {units.percent(share)}{_mostly(analysis, family)}"
        entries.append((glyph, colour, text))
    return _flow(page, entries)[:3]


def _mostly(analysis: Analysis, family: str) -> str:
    times = [
        (time.share, key)
        for key, time in analysis.budget.classes.items()
        if time is not None and palette.FAMILY_OF.get(key) == family
    ]
    if not times or family == "compute":
        return ""
    share, key = max(times)
    return f" ({palette.label(key)} {units.percent(share)})" if share > 0 else ""


def _flow(page: _Screen, entries: list[tuple[str, str, str]]) -> list[str]:
    lines, used = [" " * _INDENT], _INDENT
    for glyph, colour, text in entries:
        shown = fit(text, page.width - _INDENT - 2)
        size = cells(shown) + 2
        gap = 2 if used > _INDENT else 0
        if used + gap + size > page.width:
            lines.append(" " * _INDENT)
            used, gap = _INDENT, 0
        lines[-1] += " " * gap + page.paint(colour, glyph) + " " + shown
        used += gap + size
    return [line for line in lines if line.strip()]


def _next(page: _Screen, analysis: Analysis) -> list[str]:
    """Return the top findings, each on two lines: what it can gain, and the next step."""
    findings = overview.ordered(analysis.findings)[:_FINDINGS]
    if not findings:
        return page.labelled("Next", overview.nothing_found(analysis), 2)
    lines: list[str] = []
    for number, finding in enumerate(findings, 1):
        ceiling = overview.gain(finding)
        place = page.width - _INDENT - (cells(ceiling) + 3 if ceiling else 0)
        title = fit(f"{number}. {name(finding.title)}", place)
        label = page.strong("Next".ljust(_INDENT)) if number == 1 else " " * _INDENT
        lines.append(label + title + (f" ({ceiling})" if ceiling else ""))
        prose, command = commands.split(finding.next_step, analysis)
        step = page.wrap(": ".join(t for t in (prose, command) if t), 1, _INDENT + 3)[0]
        lines.append(page.faint(step))
    return lines


def _quality(page: _Screen, analysis: Analysis) -> list[str]:
    quality, world = analysis.quality, analysis.world
    text = f"{quality.status}; {show.plural(analysis.steps.analysed, 'step')} analysed on "
    text += f"{len(world.analysed_ranks)} of {show.plural(world.size, 'rank')}"
    worst = [i for i in quality.issues if i.severity in ("error", "warning")]
    if worst:
        more = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
        text += f"; {worst[0].message}{more}"
    if quality.cannot_tell:
        text += f"; cannot tell {show.plural(len(quality.cannot_tell), 'thing')}, see the report"
    return page.labelled("Capture", text, 2)


def _where(page: _Screen, analysis: Analysis, report_path: str, run_path: str) -> list[str]:
    lines = []
    if report_path:
        # A path is never cut: it is there to be copied.
        lines.append(page.strong("Report".ljust(_INDENT)) + visible(report_path))
    return [*lines, *page.labelled("Then", commands.following(analysis, run_path), 2)]

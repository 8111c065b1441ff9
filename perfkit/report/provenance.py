"""What the report rests on: capture quality, what cannot be told, the run, how to repeat it."""

from perfkit.analyzers.result import Analysis, QualityIssue
from perfkit.report import show
from perfkit.report.model import Block, Cell, Column, Command, Fact, Facts, Note, Section, Table
from perfkit.report.names import name

_STATUS = {
    "ok": ("good", "The capture is complete: every claim above rests on it."),
    "degraded": ("warning", "The capture has flaws: claims that they touch are weaker."),
    "unusable": ("error", "The capture cannot support a verdict."),
}

_TONES = {"error": "error", "warning": "warning"}
_GRAVITY = {"error": 0, "warning": 1, "info": 2}


def quality_section(analysis: Analysis) -> Section:
    """Return how far the capture can be trusted and what it cannot tell."""
    quality = analysis.quality
    tone, text = _STATUS.get(quality.status, ("warning", name(quality.status)))
    blocks: list[Block] = [Note(text=text, tone=tone)]
    groups = _by_code(quality.issues)
    blocks += [_issue_note(group, analysis.world.size) for group in groups]
    if len(groups) < len(quality.issues):
        blocks.append(_issue_table(analysis))
    blocks.append(_limits_table(analysis))
    return Section(
        id="quality",
        short="Quality",
        title="Capture quality and limits",
        lead="What this capture cannot tell, and what would let it.",
        blocks=tuple(blocks),
    )


def _by_code(issues: tuple[QualityIssue, ...]) -> list[list[QualityIssue]]:
    """Return issues of one kind together, the gravest kinds first."""
    groups: dict[str, list[QualityIssue]] = {}
    for issue in sorted(issues, key=lambda i: _GRAVITY.get(i.severity, len(_GRAVITY))):
        groups.setdefault(issue.code, []).append(issue)
    return list(groups.values())


def _issue_note(group: list[QualityIssue], world: int) -> Note:
    first = group[0]
    ranks = show.ranks([rank for issue in group for rank in issue.ranks], world)
    more = f"; {len(group) - 1} more of this kind below" if len(group) > 1 else ""
    text = name(first.message, 1200) + more
    return Note(
        code=name(first.code, 60),
        tone=_TONES.get(first.severity, "plain"),
        text=f"{text} ({ranks})" if ranks else text,
    )


def _issue_table(analysis: Analysis) -> Table:
    rows = tuple(
        (
            Cell(text=name(issue.code, 60), foreign=True),
            Cell(text=name(issue.severity, 20)),
            Cell(text=show.ranks(issue.ranks, analysis.world.size) or "the run"),
            Cell(text=name(issue.message, 1200)),
        )
        for issue in analysis.quality.issues
    )
    return Table(
        id="issues",
        caption="Every flaw of the capture",
        columns=(
            Column(title="Code"),
            Column(title="Severity"),
            Column(title="Ranks"),
            Column(title="What it is and costs"),
        ),
        rows=rows,
    )


def _limits_table(analysis: Analysis) -> Table:
    rows = tuple(
        (
            Cell(text=name(limit.claim)),
            Cell(text=name(limit.why)),
            Cell(text=name(limit.remedy)),
        )
        for limit in analysis.quality.cannot_tell
    )
    return Table(
        id="cannot-tell",
        caption="What this capture cannot tell",
        columns=(
            Column(title="Claim"),
            Column(title="Why not"),
            Column(title="What would let it", prose=True),
        ),
        rows=rows,
        empty="Nothing that this report claims is out of this capture's reach.",
    )


def run_section(analysis: Analysis) -> Section:
    """Return what was run and how to run it again."""
    blocks: list[Block] = [Facts(items=tuple(_facts(analysis)))]
    if analysis.run.command:
        command = name(analysis.run.command, 2000)
        blocks.append(Command(caption="Run it again", line=f"perfkit profile -- {command}"))
    blocks.append(_sources_table(analysis))
    return Section(
        id="run",
        short="Reproduce",
        title="The run and how to reproduce it",
        lead="Nothing here is a measurement.",
        blocks=tuple(blocks),
    )


def _facts(analysis: Analysis) -> list[Fact]:
    run, world = analysis.run, analysis.world
    shown = [
        ("Run", run.run_id),
        ("Command", run.command),
        ("Launcher", run.launcher),
        ("Started (UTC)", run.started_utc),
        ("Exit status", "" if run.exit_status is None else str(run.exit_status)),
        ("Hosts", ", ".join(name(host, 80) for host in run.hosts[:64])),
        ("Nodes", str(world.nodes)),
        ("Device", world.device_name or world.device_kind),
        ("Backend", run.backend),
        ("Model", run.model),
        ("torch", run.torch),
        ("Python", run.python),
        ("perfkit", analysis.perfkit_version),
        *run.facts.items(),
    ]
    return [
        Fact(name=name(key, 80), text=name(text, 2000) or show.NOT_RECORDED, foreign=bool(text))
        for key, text in shown
    ]


def _sources_table(analysis: Analysis) -> Table:
    rows = tuple((Cell(text=name(source), foreign=True),) for source in analysis.run.sources)
    return Table(
        id="sources",
        caption="Files read",
        columns=(Column(title="File"),),
        rows=rows,
        empty="No trace file was read.",
    )

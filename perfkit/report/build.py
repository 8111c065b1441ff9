"""Analysis to Page: which sections a report has, and in which order."""

from perfkit.analyzers.result import Analysis
from perfkit.report import overview, provenance, run_steps, show, tables, time_budget, timeline
from perfkit.report.model import Page
from perfkit.report.names import name


def build(analysis: Analysis) -> Page:
    """Return the page that shows `analysis`; pure, and the same for the same analysis."""
    return Page(
        title=f"perfkit · {name(analysis.run.run_id, 80) or 'report'}",
        subtitle=_subtitle(analysis),
        version=name(analysis.perfkit_version, 40),
        sections=(
            overview.verdict_section(analysis),
            overview.next_steps_section(analysis),
            time_budget.budget_section(analysis),
            timeline.timeline_section(analysis),
            time_budget.step_section(analysis),
            run_steps.run_section(analysis),
            tables.communication_section(analysis),
            tables.compute_section(analysis),
            provenance.quality_section(analysis),
            provenance.run_section(analysis),
        ),
    )


def _subtitle(analysis: Analysis) -> str:
    """Return the run in one line: what, on what, when."""
    world, run = analysis.world, analysis.run
    device = name(world.device_name, 60) or name(world.device_kind, 20).upper()
    parts = (
        name(run.command, 160),
        f"{show.plural(world.size, 'rank')} on {show.plural(world.nodes, 'node')}",
        device,
        name(run.started_utc, 40),
    )
    return " · ".join(part for part in parts if part)

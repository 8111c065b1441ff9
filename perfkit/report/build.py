"""Analysis to Page: which sections a report has, and in which order."""

from collections.abc import Iterator, Sequence

from perfkit.analyzers.result import Analysis
from perfkit.analyzers.run_facts import RECIPES
from perfkit.report import (
    communication,
    efficiency_section,
    machines_section,
    memory_section,
    operators,
    overview,
    pipeline_section,
    provenance,
    roofline_section,
    run_steps,
    show,
    time_budget,
    timeline,
    what_if_section,
)
from perfkit.report.model import Page, Section
from perfkit.report.names import name


def build(analysis: Analysis, more: Sequence[Section] = (), called: str = "") -> Page:
    """Return the page that shows `analysis`; pure, and the same for the same arguments.

    more: sections that others have built, put before the limits of the capture. called: the run's
    name where it has one that says more than its id.
    """
    return Page(
        title=f"{name(called or analysis.run.run_id, 80) or 'report'} · perfkit",
        subtitle=_subtitle(analysis),
        version=name(analysis.perfkit_version, 40),
        sections=tuple(s for s in _sections(analysis, more) if s is not None),
    )


def _sections(analysis: Analysis, more: Sequence[Section]) -> Iterator[Section | None]:
    """Yield the sections in order; None for one that has nothing to show."""
    yield overview.verdict_section(analysis)
    yield overview.next_steps_section(analysis)
    yield time_budget.budget_section(analysis)
    yield time_budget.class_section(analysis)
    yield timeline.timeline_section(analysis)
    yield time_budget.step_section(analysis)
    yield run_steps.run_section(analysis)
    yield communication.communication_section(analysis)
    yield pipeline_section.pipeline_section(analysis)
    yield efficiency_section.efficiency_section(analysis)
    yield what_if_section.what_if_section(analysis)
    yield operators.compute_section(analysis)
    yield roofline_section.roofline_section(analysis.roofline)
    yield memory_section.memory_section(analysis)
    yield machines_section.machines_section(analysis)
    yield from more
    yield provenance.quality_section(analysis)
    yield provenance.run_section(analysis)


def _subtitle(analysis: Analysis) -> str:
    """Return the run in one line: what, on what, when."""
    world, run = analysis.world, analysis.run
    device = name(world.device_name, 60) or name(world.device_kind, 20).upper()
    recipes = run.facts.get(RECIPES, "")
    parts = (
        name(run.command, 160),
        f"with {name(recipes, 120)}" if recipes else "",
        f"{show.plural(world.size, 'rank')} on {show.plural(world.nodes, 'node')}",
        device,
        name(run.started_utc, 40),
    )
    return " · ".join(part for part in parts if part)

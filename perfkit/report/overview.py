"""The first screen: the verdict with its evidence and doubts, and what to do next."""

from perfkit import units
from perfkit.analyzers.result import Analysis, Finding, Throughput, Verdict
from perfkit.report import commands, palette, show
from perfkit.report.model import Advice, Block, Fact, Headline, Note, Section
from perfkit.report.names import name

SEVERITIES = {"high": 0, "moderate": 1, "info": 2}


def verdict_section(analysis: Analysis) -> Section:
    """Return the verdict: one sentence, its numbers, and what would change it."""
    verdict = analysis.verdict
    headline = Headline(
        label=verdict.label if verdict.label in _BADGES else "undetermined",
        badge=badge(verdict),
        sentence=show.sentence(name(verdict.sentence, 1200)),
        doubts=doubts(analysis),
        tiles=_tiles(analysis),
        would_change=would_change(analysis),
    )
    return Section(id="verdict", short="Verdict", title="Verdict", lead="", blocks=(headline,))


_BADGES = {
    "compute": "bound by compute",
    "communication": "bound by communication",
    "io": "bound by I/O",
    "host": "bound by the host",
    "mixed": "mixed",
    "undetermined": "cannot tell",
}


def badge(verdict: Verdict) -> str:
    """Return the label in words."""
    words = _BADGES.get(verdict.label, name(verdict.label, 40))
    if verdict.label == "mixed" and verdict.mixed_of:
        words += ": " + " and ".join(palette.label(family) for family in verdict.mixed_of)
    return words


def doubts(analysis: Analysis) -> tuple[str, ...]:
    """Return why the verdict may be otherwise, beyond what its sentence says."""
    found = []
    if analysis.verdict.tentative and analysis.steps.analysed:
        steps = show.plural(analysis.steps.analysed, "step")
        found.append(f"Tentative: {steps} analysed, 8 are needed to be sure.")
    if analysis.quality.status != "ok":
        found.append(f"The capture is {name(analysis.quality.status, 40)}: see its quality below.")
    return tuple(found)


def confidence(analysis: Analysis) -> str:
    """Return the bootstrap's confidence; "" where it says nothing.

    One step cannot vary, an undetermined verdict has nothing to be confident of, and finitely
    many draws never show a probability of 100 %.
    """
    share = analysis.verdict.confidence
    if share is None or analysis.steps.analysed < 2 or analysis.verdict.label == "undetermined":
        return ""
    return ">99.9%" if share > 0.999 else units.percent(share)


def would_change(analysis: Analysis) -> str:
    """Return what would make the verdict read otherwise."""
    verdict = analysis.verdict
    if verdict.label == "undetermined":
        return name(commands.remedy(analysis), 300) or "A run with a profiled window."
    if verdict.margin is None:
        return ""
    shares = sorted(verdict.rollup_after_blame.items(), key=lambda item: -item[1])
    if len(shares) < 2:
        return ""
    lead = f"{palette.label(shares[1][0])} follows {_points(verdict.margin)} behind"
    if verdict.reason == "second_opinion":
        return (
            "One family is named alone once it leads both by exposed time and on the critical path."
        )
    if verdict.label == "mixed":
        return show.sentence(
            f"{lead}; one family is named alone from 10 points and 95% confidence on"
        )
    return show.sentence(f"{lead}; under 10 points the verdict would read mixed")


def _points(share: float) -> str:
    return f"{units.count(round(share * 100))} points"


def _tiles(analysis: Analysis) -> tuple[Fact, ...]:
    steps, verdict, world = analysis.steps, analysis.verdict, analysis.world
    tiles = [_step_tile(analysis)]
    work = analysis.throughput
    rates = _rates(work)
    if rates:
        tiles.append(
            Fact(name="Throughput", text=rates[0], meaning="throughput", note=", ".join(rates[1:]))
        )
    tiles.append(
        Fact(
            name="Confidence",
            text=confidence(analysis) or "cannot tell",
            meaning="confidence",
            note=f"{show.plural(steps.analysed, 'step')} analysed",
        )
    )
    tiles.append(
        Fact(
            name="Limiter",
            text=_limiter(verdict),
            meaning="limiter",
            note=_limiter_note(verdict),
        )
    )
    tiles.append(
        Fact(
            name="Ranks",
            text=f"{len(world.analysed_ranks)} of {world.size}",
            meaning="world_size",
            note=name(world.device_name, 60) or name(world.device_kind, 20).upper(),
        )
    )
    return tuple(tiles)


def _step_tile(analysis: Analysis) -> Fact:
    steps = analysis.steps
    if steps.median_ms is not None or steps.profiled_median_ms is None:
        return Fact(
            name="Median step",
            text=show.known(units.milliseconds, steps.median_ms),
            meaning="median_step",
            note=f"95th percentile {show.known(units.milliseconds, steps.p95_ms)}",
        )
    return Fact(
        name="Median profiled step",
        text=units.milliseconds(steps.profiled_median_ms),
        meaning="profiled_step",
        note="no unprofiled step recorded",
    )


def _rates(work: Throughput) -> list[str]:
    measured = ((work.tokens_per_s, "tokens"), (work.samples_per_s, "samples"))
    return [units.rate(per_second, what) for per_second, what in measured if per_second is not None]


def _limiter(verdict: Verdict) -> str:
    if verdict.limiter:
        return palette.label(verdict.limiter)
    return "none" if verdict.rollup_after_blame else "cannot tell"


def _limiter_note(verdict: Verdict) -> str:
    if verdict.limiter is None:
        return "nothing recoverable stands out" if verdict.rollup_after_blame else ""
    share = verdict.rollup_after_blame.get(verdict.limiter)
    severity = verdict.severity.get(verdict.limiter, "")
    return ", ".join(t for t in (units.percent(share) + " after blame", name(severity, 20)) if t)


def next_steps_section(analysis: Analysis) -> Section:
    """Return the findings as advice, most severe and largest gain first."""
    blocks: tuple[Block, ...] = tuple(advice(f, analysis) for f in ordered(analysis.findings))
    if all(f.severity == "info" for f in analysis.findings):
        blocks = (*blocks, Note(text=nothing_found(analysis)))
    return Section(
        id="next",
        short="Next",
        title="What to do next",
        lead="Each gain is a ceiling: the speed-up if that time vanished and nothing else changed.",
        blocks=blocks,
    )


def nothing_found(analysis: Analysis) -> str:
    """Return the sentence that stands in place of findings."""
    if analysis.steps.analysed == 0:
        return "No finding: no step was profiled, so there is nothing to rest one on."
    said = "Nothing recoverable stands out in the analysed steps"
    if analysis.verdict.label == "compute":
        said += ": only less or cheaper computing makes them shorter"
    return f"{said}. `perfkit recipes RUN` lists what can be tried, with its predicted gain."


def ordered(findings: tuple[Finding, ...]) -> list[Finding]:
    """Return findings by severity, then by gain ceiling; ties keep their order."""
    return sorted(findings, key=lambda f: (SEVERITIES.get(f.severity, 3), -(f.gain_ceiling or 0.0)))


def advice(finding: Finding, analysis: Analysis) -> Advice:
    """Return one finding as shown on the page."""
    prose, command = commands.split(finding.next_step, analysis)
    return Advice(
        id=name(finding.id, 80),
        severity=finding.severity if finding.severity in SEVERITIES else "info",
        title=name(finding.title),
        evidence=show.sentence(name(finding.evidence, 800)),
        ranks=show.ranks(finding.ranks, analysis.world.size),
        gain=gain(finding),
        next_step=name(prose, 800),
        command=name(command, 2000),
        not_when=name(finding.not_when),
        recipe=name(finding.recipe or "", 80),
    )


LARGEST_GAIN = 100


def gain(finding: Finding) -> str:
    """Return the gain ceiling in words, "" where there is none.

    Above LARGEST_GAIN it says no more than that nearly all of the step is lost.
    """
    if finding.gain_ceiling is None:
        return ""
    if finding.gain_ceiling > LARGEST_GAIN:
        return f"limit over {LARGEST_GAIN}x"
    return f"at most {units.ratio(finding.gain_ceiling)}"

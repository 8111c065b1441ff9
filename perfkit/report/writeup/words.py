"""Sentences that both labs share. Only what was measured is stated."""

from collections.abc import Iterator

from perfkit import units
from perfkit.report.names import name
from perfkit.report.writeup.document import Block, Bullets, Code, Grid, Heading, Paragraph
from perfkit.report.writeup.evidence import Arm, Evidence, SpeedUp, speed_up

NOISE = 0.03
"""A change that is expected to gain less than this is expected to gain nothing."""


def interval(found: SpeedUp) -> str:
    """Return a speed-up with its interval."""
    if found.low is None or found.high is None:
        return f"{units.ratio(found.ratio)} (one run each: no interval)"
    return f"{units.ratio(found.ratio)} ({units.ratio(found.low)} to {units.ratio(found.high)})"


def saved(before: float, after: float) -> str:
    """Return the memory that a change saves or costs."""
    share = 1 - after / before
    return f"{units.percent(abs(share))} {'saved' if share >= 0 else 'more'}"


def guessed(arm: Arm) -> str:
    """Return a prediction in words."""
    guess = arm.guess
    if guess is None or guess.speed_up is None:
        return "none" if guess is None else f"none: {guess.why}"
    if guess.low is None or guess.high is None:
        return units.ratio(guess.speed_up)
    return f"{units.ratio(guess.speed_up)} ({units.ratio(guess.low)} to {units.ratio(guess.high)})"


def judged(base: Arm, arm: Arm) -> str:
    """Return what the measurement says of the prediction, in one sentence."""
    got, guess = speed_up(base, arm), arm.guess
    if got is None:
        return "The samples per second were not recorded, so there is no speed-up to state."
    if got.proven is None:
        told = "One run on each side cannot tell this from noise between runs."
    elif not got.proven:
        told = "The interval holds 1: no effect is shown."
    else:
        told = "The interval leaves out 1: the effect is larger than the noise between runs."
    if guess is None or guess.speed_up is None:
        return f"{told} Nothing was predicted, so nothing was put to the test."
    gap = got.ratio / guess.speed_up - 1
    within = (
        guess.low is not None and guess.high is not None and guess.low <= got.ratio <= guess.high
    )
    where = "inside" if within else "outside"
    side = "above" if gap >= 0 else "below"
    return f"{told} It is {units.percent(abs(gap))} {side} the prediction and {where} its range."


def setup(found: Evidence) -> Iterator[Block]:
    """Yield hardware, software and command."""
    run = found.base.first
    yield Heading(text="Set-up")
    device = name(run.world.device_name, 80) or run.world.device_kind.upper()
    ranks = f"{run.world.size} rank{'s' * (run.world.size != 1)} on {run.world.nodes} node"
    rows = [
        ("Hardware", found.machine.hardware or "not recorded"),
        ("Device", device),
        ("Job", ranks + "s" * (run.world.nodes != 1)),
        ("Software", found.machine.software),
        ("Model", name(run.run.model, 120) or "not recorded"),
        *((name(key, 40), name(value, 80)) for key, value in sorted(run.run.facts.items())),
    ]
    yield Grid(header=("What", "Value"), rows=tuple(rows), numeric=2)
    yield Code(lines=(name(found.machine.command, 400),))


def method(found: Evidence) -> Iterator[Block]:
    """Yield steps, repeats, statistics, and what was left out."""
    base = found.base.first
    counts = {len(arm.runs) for arm in found.arms if arm.runs}
    runs = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    yield Heading(text="Method")
    text = (
        f"Each variant was run {runs} time{'s' * (counts != {1})}. A run recorded "
        f"{base.steps.recorded} optimizer steps, of which {base.steps.analysed} were profiled. "
        "Step times and throughput come from the unprofiled steady steps only: the first steps, "
        "steps in or beside the profiled window and steps with an evaluation are left out, because "
        "they are not what training looks like. A step takes as long as its slowest rank; a run is "
        "summed up by its median step. Where the time goes comes from the profiled steps, in which "
        "every nanosecond of every rank has exactly one class. The unit of replication is the run, "
        "not the step, since steps of one run depend on each other; speed-ups are ratios of "
        "geometric means over runs with 95 % limits from the t distribution on logarithms."
    )
    yield Paragraph(text=text)
    if found.machine.shared:
        yield Paragraph(text=found.machine.shared)


def threats(found: Evidence) -> Iterator[Block]:
    """Yield what could make the conclusions wrong."""
    base = found.base.first
    items = []
    fewest = min((len(arm.runs) for arm in found.arms if arm.runs), default=1)
    if fewest < 3:
        items.append(
            f"Some variants have {fewest} run{'s' * (fewest != 1)} only: below three, noise "
            "between runs is hardly known."
        )
    if found.machine.shared:
        items.append("Other programs used the machine meanwhile; all times contain their share.")
    if base.quality.status != "ok":
        flaws = "; ".join(name(issue.message, 200) for issue in base.quality.issues[:3])
        items.append(f"The capture is {base.quality.status}: {flaws}.")
    if base.world.device_kind == "cpu":
        items.append(
            "Ranks computed on processors and talked through shared memory or a socket: shares of "
            "compute and communication do not carry over to accelerators."
        )
    items.append(
        f"The budget rests on {base.steps.analysed} profiled steps, and a profiler slows down what "
        "it watches; shares are put on unprofiled steps, which assumes that it slows all alike."
    )
    items += [f"{name(c.claim, 80)}: {name(c.why, 160)}." for c in base.quality.cannot_tell[:3]]
    yield Heading(text="Threats to validity")
    yield Bullets(items=tuple(items))


def reproduce(found: Evidence, line: str) -> Iterator[Block]:
    """Yield the commands that lead here."""
    yield Heading(text="How to reproduce")
    if "--measure" in line.split():
        yield Paragraph(text="The runs, their summaries and this text come from:")
        yield Code(lines=(line,))
    else:
        yield Paragraph(text="The first line makes such runs and their text; the second made this:")
        yield Code(lines=(name(found.measure, 400), line))
    runs = [name(run, 200) for arm in found.arms for run in arm.runs]
    yield Paragraph(
        text="Each run has a report of its own (perfkit analyze RUN writes it again): "
        f"{', '.join(runs)}."
    )

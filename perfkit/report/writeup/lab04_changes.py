"""Each optimization of lab 04: hypothesis, prediction, measurement, explanation."""

from collections.abc import Iterator

from perfkit import units
from perfkit.analyzers.compare import compare
from perfkit.analyzers.comparison import Comparison
from perfkit.report import palette, show
from perfkit.report.names import name
from perfkit.report.writeup import words
from perfkit.report.writeup.document import Block, Bullets, Gap, Grid, Heading, Paragraph, YourTurn
from perfkit.report.writeup.evidence import (
    ALL,
    TABLE,
    TITLES,
    Arm,
    Evidence,
    SpeedUp,
    speed_up,
    work_ratio,
)

HYPOTHESES = {
    "amp": "Mixed precision makes matrix products faster where the hardware has faster units for "
    "16 bits, and halves the activations' memory. It can gain nothing where a step waits for "
    "input or for the network.",
    "accum": "Accumulating gradients over micro-batches communicates once for several of them. It "
    "gains as much as the communication that compute does not hide, divided by the micro-batches, "
    "and nothing where there is none.",
    "loader": "Loader processes, prefetching and pinned memory take input off the training thread. "
    "They can gain at most the time that a step waits for input.",
    "all": "Changes that work on parts of a step of their own save times that add up, so that "
    "together they gain more than the product of their gains. Where two work on the same part, or "
    "one needs the processors that another one keeps busy, they gain less.",
}
CHANGES_SHOWN = 4
AIMS = {"amp": "compute", "accum": "comm_transfer", "loader": "input_wait"}
"""The class of time that a change is to make shorter."""
Change = tuple[str, float, float]  # class, ms before, ms after


def blocks(found: Evidence) -> Iterator[Block]:
    """Yield a part for each optimization; a gap where it was not run."""
    for role in TABLE[1:]:
        yield Heading(text=TITLES[role].removeprefix("+ "), level=4)
        yield Paragraph(text=f"Hypothesis: {HYPOTHESES[role]} {_stake(found, role)}".strip())
        arm = found.arm(role)
        if arm is not None:
            yield from _measured(found, arm)
        elif found.refusal(role):
            yield Paragraph(text=f"It was not run: {name(found.refusal(role), 400)}.")
        else:
            yield Gap(what=f"runs with {TITLES[role]}", command=found.measure)
    for arm in found.others:
        if arm.role not in TITLES:
            yield Heading(text=name(arm.title, 60), level=4)
            yield from _measured(found, arm)


def _stake(found: Evidence, role: str) -> str:
    """Return how much there is to gain in the baseline, in its own numbers."""
    budget, step = found.base.first.budget, found.base.step_ms
    if not budget.per_rank or step is None:
        return ""
    share = {
        "amp": budget.rollup.get("compute"),
        "accum": budget.rollup.get("communication"),
        "loader": 0.0 if (t := budget.classes.get("input_wait")) is None else t.share,
    }.get(role)
    if share is None:
        return ""
    text = (
        f"Here that concerns {units.percent(share)} of the step, "
        f"{units.milliseconds(share * step)} of {units.milliseconds(step)}"
    )
    if role == "amp" or share >= 1:
        return f"{text}."
    return (
        f"{text}; without it altogether the step would be {units.ratio(1 / (1 - share))} as fast."
    )


def _measured(found: Evidence, arm: Arm) -> Iterator[Block]:
    got = speed_up(found.base, arm)
    rows = [
        ("Changed", name(arm.applied, 300) or "as the run was started"),
        ("Predicted, before it was measured", words.guessed(arm)),
        ("Throughput", units.rate(arm.rate, "samples")),
        ("Measured speed-up", "-" if got is None else words.interval(got)),
    ]
    saved = _saved(found, arm)
    if saved:
        rows.append(("Memory", saved))
    if arm.loss is not None:
        rows.append(("Last loss", f"{units.number(arm.loss)}; {name(arm.verdict, 200)}"))
    yield Grid(header=("", "Value"), rows=tuple(rows), numeric=2)
    yield Paragraph(text=f"{words.judged(found.base, arm)} {explanation(found, arm)}")
    if arm.guess is not None and arm.guess.why:
        yield Paragraph(text=f"The prediction rests on: {name(arm.guess.why, 400)}.")
    yield YourTurn(question=f"What explains the effect of {name(arm.title, 60)} on this training?")


def _saved(found: Evidence, arm: Arm) -> str:
    before, held = found.base.memory, arm.memory
    if before is None or held is None or before[1] != held[1]:
        return ""
    return (
        f"{units.size(held[0])} against {units.size(before[0])} ({held[1]}): "
        f"{words.saved(before[0], held[0])}"
    )


def explanation(found: Evidence, arm: Arm) -> str:
    """Return which classes of time changed, from the traces of both."""
    changed = _changed(found, arm)
    if isinstance(changed, str):
        return changed
    told = "; ".join(map(_from_to, changed[:CHANGES_SHOWN]))
    work = work_ratio(found.base, arm)
    per = "per step" if work == 1 else f"per step's work (a step holds {units.ratio(work)} of it)"
    return f"In the profiled steps changed most, {per}: {told}."


def _changed(found: Evidence, arm: Arm) -> list[Change] | str:
    """Return the classes of time that changed, most first; a sentence where none can be told."""
    compared = compare(found.base.analyses, arm.analyses)
    if not isinstance(compared, Comparison):
        return ""
    if not (arm.first.budget.per_rank and found.base.first.budget.per_rank):
        return "One of the two has no trace, so that nothing says which class of time changed."
    work = work_ratio(found.base, arm)
    known = [
        (r.name, r.base_ms, r.new_ms / work)
        for r in compared.classes
        if r.base_ms is not None and r.new_ms is not None and r.base_ms != r.new_ms / work
    ]
    known.sort(key=lambda row: -abs(row[2] - row[1]))
    return known or "The traces do not say which class of time changed."


def _from_to(change: Change) -> str:
    key, old, new = change
    return f"{palette.label(key)} {units.milliseconds(old)} to {units.milliseconds(new)}"


def _why_not(found: Evidence, arm: Arm) -> str:
    """Return what became of the time that a change works on, and what took as much elsewhere."""
    changed = _changed(found, arm)
    if isinstance(changed, str):
        return changed
    aim = next((row for row in changed if row[0] == AIMS.get(arm.role)), None)
    if aim is None:
        return explanation(found, arm)
    if aim[2] >= aim[1]:
        return f"What it works on did not get shorter: {_from_to(aim)}."
    longer = next((row for row in changed if row[2] > row[1]), None)
    text = f"What it works on did get shorter, {_from_to(aim)}"
    return f"{text}." if longer is None else f"{text}, but not the rest: {_from_to(longer)}."


def did_not_help(found: Evidence) -> Iterator[Block]:
    """Yield what gained nothing, and what can be said of why."""
    items = []
    for arm in found.others:
        gain = speed_up(found.base, arm)
        if gain is None or (gain.proven and gain.ratio > 1):
            continue
        reason = "it made the training slower" if gain.proven else "no gain is shown"
        items.append(
            f"{name(arm.title, 60)}: {reason}, {words.interval(gain)}. {_why_not(found, arm)}"
        )
    items += [
        f"{TITLES[role]} could not be applied: {name(found.refusal(role), 300)}."
        for role in TABLE
        if found.refusal(role)
    ]
    what_if = found.base.first.what_if
    for idle in what_if.no_gain if what_if is not None else ():
        items.append(
            f"Not tried, because the captured steps say that it gains nothing here "
            f"({units.ratio(idle.speed_up)}): {name(', '.join(idle.changes), 120)}."
        )
    if items:
        yield Bullets(items=tuple(items))
    else:
        yield Paragraph(text="Everything that was tried helped.")


def before_and_after(found: Evidence, arm: Arm) -> str:
    """Return the comparison of two arms in words."""
    compared = compare(found.base.analyses, arm.analyses)
    if not isinstance(compared, Comparison):
        return "The two cannot be compared: " + compared.reason + "."
    before = f"Before and after ({arm.title} against the baseline):"
    parts = [f"{before} {show.sentence(compared.sentence)}"]
    work, gain = work_ratio(found.base, arm), speed_up(found.base, arm)
    if work != 1 and gain is not None:
        parts = [
            f"{before} a step holds {units.ratio(work)} the samples, so that step times do not "
            f"compare; the throughput is {words.interval(gain)} that of the baseline."
        ]
    if compared.findings_gone:
        parts.append(f"No longer found: {', '.join(map(name_of, compared.findings_gone))}.")
    if compared.findings_new:
        parts.append(f"Newly found: {', '.join(map(name_of, compared.findings_new))}.")
    parts.append(f"What bounds it now: {show.sentence(name(arm.first.verdict.sentence, 400))}")
    return " ".join(parts)


def name_of(text: str) -> str:
    """Return a finding's id as words."""
    return name(text, 60).replace("_", " ")


def baseline(found: Evidence) -> Iterator[Block]:
    """Yield how a step of the baseline divides, and how steady its steps are."""
    run, step = found.base.first, found.base.step_ms
    if run.budget.per_rank and step is not None:
        yield Paragraph(text=_shares(found))
    yield Paragraph(text=_stability(found))


def together(found: Evidence) -> Iterator[Block]:
    """Yield how the changes add up, what bounds the training then, and what else is predicted."""
    gains = [(a, g) for a in found.others if (g := speed_up(found.base, a)) is not None]
    if len(gains) > 1:
        yield Paragraph(text=_together(gains))
    both = found.arm(ALL)
    if both is not None:
        yield Paragraph(text=before_and_after(found, both))
    what_if = found.base.first.what_if
    if what_if is not None and what_if.worth_trying:
        yield Paragraph(text=_prospects(found))


def _shares(found: Evidence) -> str:
    run, step = found.base.first, found.base.step_ms or 0.0
    order = sorted(run.budget.rollup.items(), key=lambda item: -item[1])
    told = ", ".join(
        f"{units.percent(share)} {family} ({units.milliseconds(share * step)})"
        for family, share in order
    )
    times = run.verdict.rollup_after_blame
    changed = [k for k, v in times.items() if abs(v - run.budget.rollup.get(k, 0.0)) >= 0.01]
    blame = ""
    if changed:
        listed = ", ".join(f"{k} {units.percent(times[k])}" for k in changed)
        blame = (
            " Time in which ranks wait for a late one is then charged to what the late rank was "
            f"doing, which gives {listed}."
        )
    limit = run.verdict.limiter
    least = min((1 - s for s in (times.get(limit or "", 0.0),)), default=1.0)
    room = (
        f" The largest recoverable part is {limit}: even without any of it a step would take "
        f"{units.percent(least)} of its time, so that no fix of it can bring more than "
        f"{units.ratio(1 / least)}."
        if limit is not None and least > 0
        else " No part that a fix could recover is large enough to matter."
    )
    return f"A step of {units.milliseconds(step)} divides into {told}.{blame}{room}"


def _stability(found: Evidence) -> str:
    steps = found.base.first.steps
    parts = []
    if steps.median_ms and steps.p95_ms:
        parts.append(
            f"Unprofiled steps of the first baseline run have a median of "
            f"{units.milliseconds(steps.median_ms)} and a 95th percentile of "
            f"{units.milliseconds(steps.p95_ms)}, "
            f"{units.percent(steps.p95_ms / steps.median_ms - 1)} above it."
        )
    if steps.profiled_median_ms and steps.median_ms:
        parts.append(
            f"Profiled steps took {units.milliseconds(steps.profiled_median_ms)} "
            f"({units.change(steps.profiled_median_ms / steps.median_ms - 1)}): the profiler's own "
            "cost and chance together, and the reason why profiled steps time nothing here."
        )
    for rhythm in steps.periodic:
        parts.append(
            f"Every {rhythm.every} steps one is {units.milliseconds(rhythm.extra_ms)} longer "
            f"({rhythm.cause.replace('_', ' ')})."
        )
    if steps.drift_percent is not None:
        parts.append(
            f"From the first to the last third of the run the step time changed by "
            f"{units.change(steps.drift_percent / 100)}."
        )
    return " ".join(parts) or "No unprofiled steady step was recorded."


def _together(gains: list[tuple[Arm, SpeedUp]]) -> str:
    single = [(a, g) for a, g in gains if a.role not in ("all",)]
    whole = next((g for a, g in gains if a.role == "all"), None)
    told = ", ".join(f"{a.title.removeprefix('+ ')} {units.ratio(g.ratio)}" for a, g in single)
    text = f"Alone the changes gave {told}."
    if whole is None or not single:
        return text
    product = 1.0
    for _, gain in single:
        product *= gain.ratio
    saved = 1 - sum(1 - 1 / gain.ratio for _, gain in single)
    added = f"; the times that they saved add up to {units.ratio(1 / saved)}" if saved > 0 else ""
    return (
        f"{text} Their product is {units.ratio(product)}{added}. Together they gave "
        f"{words.interval(whole)}. Savings add up where each change has a part of the step of its "
        "own; less than that says that two of them save the same time, or that what was hidden "
        "before (input under communication, say) shows once the other is gone."
    )


def _prospects(found: Evidence) -> str:
    what_if = found.base.first.what_if
    assert what_if is not None
    told = "; ".join(
        f"{name(', '.join(p.changes), 80)} {units.ratio(p.speed_up)}, then bound by "
        f"{(p.next_bottleneck or 'nothing known').replace('_', ' ')}"
        for p in what_if.worth_trying[:3]
    )
    error = units.percent(abs(what_if.replay_error or 0.0))
    return (
        f"Replaying the captured steps (the unchanged replay is {error} off the measured step) "
        f"says of further changes, as predictions and not as measurements: {told}."
    )

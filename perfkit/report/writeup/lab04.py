"""Lab 04, Performance Profiling and Optimization: what the lab sheet asks for, from runs."""

from collections.abc import Iterator, Sequence

from perfkit import units
from perfkit.report import show
from perfkit.report.names import name
from perfkit.report.roofline_basis import CONVENTIONS
from perfkit.report.writeup import communication, figures, iron, lab04_changes, ledger, words
from perfkit.report.writeup.document import (
    ANALYSIS,
    Block,
    Bullets,
    Document,
    Gap,
    Grid,
    Heading,
    Paragraph,
    YourTurn,
)
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

TOP = 5
WASTE = 1.02
"""Findings that could gain less are not worth a recommendation."""


def build(found: Evidence, line: str) -> Document:
    """Return the write-up; `line` is the command that made it."""
    blocks = [
        *_question(found),
        *words.setup(found),
        *words.method(found),
        *_baseline(found),
        *_table(found),
        *_analysis(found),
        *_recommendations(found),
        *words.threats(found),
        *_attached(found),
        *words.reproduce(found, line),
    ]
    return Document(
        title="Lab 04: Performance Profiling and Optimization",
        blocks=tuple(blocks),
        ledger=ledger.ledger(found, iron.terms_of(found.base), found.price_per_rank_hour),
    )


def _question(found: Evidence) -> Iterator[Block]:
    run = found.base.first
    yield Heading(text="Question")
    text = (
        f"What bounds a training step of {name(run.run.model, 80) or 'this model'} on "
        f"{run.world.size} rank{'s' * (run.world.size != 1)}, and how much do mixed precision, "
        "gradient accumulation and a better data loader each gain, alone and together? "
        f"In short: {_verdict(found)}"
    )
    yield Paragraph(text=text)
    best = _best(found)
    if best is not None:
        arm, gain = best
        yield Paragraph(
            text=f"Of what was tried, {arm.title} gained most: {words.interval(gain)} the "
            "throughput of the baseline."
        )
    elif found.others:
        yield Paragraph(text="Nothing that was tried is shown to make it faster.")


def _verdict(found: Evidence) -> str:
    return show.sentence(name(found.base.first.verdict.sentence, 600))


def _best(found: Evidence) -> tuple[Arm, SpeedUp] | None:
    known = [(a, g) for a in found.others if (g := speed_up(found.base, a)) is not None]
    gains = [(a, g) for a, g in known if g.ratio > 1 and g.proven is not False]
    return max(gains, key=lambda pair: pair[1].ratio) if gains else None


def _baseline(found: Evidence) -> Iterator[Block]:
    run = found.base.first
    yield Heading(text="Where the baseline's time goes")
    yield Paragraph(text=_verdict(found))
    drawn = figures.budgets([found.base, *found.others], "budget")
    if drawn is not None:
        yield drawn
    yield Heading(text=f"Top {TOP} operations by time", level=3)
    if run.operators:
        rows = tuple(
            (
                str(place),
                name(op.name, 60),
                op.kind,
                units.number(op.count),
                units.milliseconds(op.ms),
                units.percent(op.share),
            )
            for place, op in enumerate(run.operators[:TOP], 1)
        )
        header = ("", "Operation", "Kind", "Calls a step", "Time a step", "Share of the step")
        yield Grid(header=header, rows=rows, numeric=3)
        yield Paragraph(
            text="Times are self times, so that operators of one thread never overlap. Collectives "
            "run on threads or streams of their own: they overlap the others and, where several "
            "are under way, each other, so that their share can pass 100%."
        )
    else:
        yield Gap(what="operations by time: the baseline has no trace", command=found.measure)
    yield Heading(text="Utilisation", level=3)
    yield Bullets(items=tuple(_utilisation(found)))
    drawn = figures.roofline(found.base)
    if drawn is not None:
        yield drawn
    yield Heading(text="Bottlenecks", level=3)
    if run.findings:
        yield Bullets(
            items=tuple(
                f"{name(f.title, 120)} ({f.severity}): {show.sentence(name(f.evidence, 300))}"
                + (f" At most {units.ratio(f.gain_ceiling)}." if f.gain_ceiling else "")
                for f in run.findings
            )
        )
    else:
        yield Paragraph(text="No rule found a bottleneck worth naming beyond the verdict.")


def _utilisation(found: Evidence) -> Iterator[str]:
    run = found.base.first
    busy = run.budget.rollup.get("compute")
    if busy is not None and run.budget.per_rank:
        yield f"Share of the step in which a rank computes: {units.percent(busy)}."
    for node in run.telemetry:
        for gpu in node.gpus:
            if gpu.utilisation_percent is not None:
                yield (
                    f"GPU {gpu.index} of {name(node.node, 40)}, by its driver: "
                    f"{units.percent(gpu.utilisation_percent / 100)} (the share of time in which "
                    "any kernel ran, whatever it used of the device)."
                )
        if node.own_cores is not None:
            yield (
                f"Processors of {name(node.node, 40)}: this job kept "
                f"{units.number(node.own_cores)} of {node.processors} busy, others "
                f"{units.number(node.other_cores)}."
            )
    roofline = run.roofline
    for used in roofline.utilization if roofline is not None else ():
        counted = CONVENTIONS.get(used.convention, name(used.convention, 40))
        yield (
            f"Of the arithmetic peak, {counted}: "
            f"{units.percent(used.share)} of {units.flops(used.peak_flop_per_s)} "
            f"({used.peak_source})."
        )
    if roofline is None or not roofline.utilization:
        yield (
            "Of the arithmetic peak: cannot tell, no ceilings of this machine were given "
            "(perfkit ceilings --out RUN/ceilings.json, then perfkit analyze RUN)."
        )


def _table(found: Evidence) -> Iterator[Block]:
    """Yield the lab sheet's table: every row changes one thing, the last one all of them."""
    yield Heading(text="Results")
    rows: list[tuple[str, ...]] = []
    for role in TABLE:
        arm = found.arm(role)
        if arm is None:
            reason = found.refusal(role)
            rows.append((TITLES[role], "missing", name(reason, 120) or "missing", "", ""))
            continue
        rows.append(_row(found, arm))
    yield Grid(
        header=("Optimization", "Throughput", "Speedup", "Memory", "Accuracy"),
        rows=tuple(rows),
        prose=4,
    )
    yield Paragraph(text=_legend(found))
    drawn = figures.throughputs([found.base, *found.others])
    if drawn is not None:
        yield drawn
    lacking = [role for role in TABLE if found.arm(role) is None and not found.refusal(role)]
    if lacking:
        listed = ", ".join(TITLES[role] for role in lacking)
        yield Gap(what=f"rows of the table: {listed}", command=found.measure)


def _row(found: Evidence, arm: Arm) -> tuple[str, ...]:
    gain = speed_up(found.base, arm)
    shown = "1" if arm is found.base else "-" if gain is None else words.interval(gain)
    held = arm.memory
    memory = "not recorded" if held is None else units.size(held[0])
    before = found.base.memory
    if held is not None and before is not None and arm is not found.base and held[1] == before[1]:
        memory += f" ({words.saved(before[0], held[0])})"
    return (arm.title, units.rate(arm.rate, "samples"), shown, memory, _accuracy(found, arm))


def _accuracy(found: Evidence, arm: Arm) -> str:
    if arm.loss is None:
        return "not recorded"
    text = f"loss {units.number(arm.loss)}"
    if arm is not found.base and found.base.loss:
        text += f" ({units.change(arm.loss / found.base.loss - 1)})"
    return f"{text}; {name(arm.verdict, 160)}" if arm.verdict else text


def _legend(found: Evidence) -> str:
    held = found.base.memory
    memory = "was not recorded" if held is None else f"is the most of one rank, {held[1]}"
    step = found.base.loss_step
    loss = "" if step is None else f" Loss is that of step {step}, mean over ranks and runs."
    if loss and any(work_ratio(found.base, arm) != 1 for arm in found.others):
        loss += (
            " A variant that accumulates has seen the same samples by then in fewer updates, so "
            "that a higher loss is expected and says nothing of how it ends."
        )
    return (
        "Each row changes one thing against the baseline, the last one all of them. Throughput is "
        "samples of the whole job per second; in parentheses 95 % limits over runs. Memory "
        f"{memory}.{loss}"
    )


def _analysis(found: Evidence) -> Iterator[Block]:
    """Yield the lab sheet's analysis: why the baseline takes its time, and what each change did."""
    run = found.base.first
    yield Heading(text=ANALYSIS)
    yield Heading(text="Where the time goes", level=3)
    yield from lab04_changes.baseline(found)
    yield Heading(text="Compute against communication", level=3)
    yield from communication.blocks(found)
    yield Heading(text="The optimizations, one by one", level=3)
    yield from lab04_changes.blocks(found)
    yield Heading(text="What did not help, and why", level=3)
    yield from lab04_changes.did_not_help(found)
    yield Heading(text="All together, and what is left", level=3)
    yield from lab04_changes.together(found)
    yield Heading(text="Your analysis", level=3)
    yield YourTurn(
        question=f"Why is this training bound by {run.verdict.dominant or 'what it is bound by'}? "
        "Argue from the budget and the top operations, and say what evidence would prove you wrong."
    )
    yield YourTurn(
        question="Which of the measured effects would carry over to more or other hardware, and "
        "which would not?"
    )


def _recommendations(found: Evidence) -> Iterator[Block]:
    yield Heading(text="Recommendations")
    items = []
    proven = [(a, g) for a in found.others if (g := speed_up(found.base, a)) and g.proven]
    for arm, gain in proven:
        if gain.ratio > 1:
            items.append(f"Keep {arm.title}: {words.interval(gain)}. Look at its accuracy first.")
    items += _no_more(found, [pair for pair in proven if pair[1].ratio > 1])
    for finding in found.base.first.findings:
        ceiling = finding.gain_ceiling
        if finding.severity != "info" and (ceiling is None or ceiling >= WASTE):
            items.append(f"{name(finding.title, 120)}: {name(finding.next_step, 240)}")
    if items:
        yield Bullets(items=tuple(items))
    else:
        yield Paragraph(text="Nothing that was measured gives reason to change this training.")


def _no_more(found: Evidence, helped: Sequence[tuple[Arm, SpeedUp]]) -> list[str]:
    """Say where all changes together are not shown to gain more than the best of them alone."""
    both = found.arm(ALL)
    single = [(arm, gain) for arm, gain in helped if arm is not both]
    if both is None or not single:
        return []
    arm, _ = max(single, key=lambda pair: pair[1].ratio)
    more = speed_up(arm, both)
    if more is None or (more.proven and more.ratio > 1):
        return []
    return [
        f"Prefer {arm.title} to {both.title}: all changes together are {words.interval(more)} the "
        "throughput of it alone, so that the others are not shown to add anything."
    ]


def _attached(found: Evidence) -> Iterator[Block]:
    yield Heading(text="Attached reports")
    if found.traces:
        text = (
            "PyTorch Profiler traces (chrome://tracing, Perfetto, TensorBoard) and, where there "
            "are any, Nsight Systems reports:"
        )
        yield Paragraph(text=text)
        yield Bullets(items=found.traces)
    else:
        yield Gap(what="a PyTorch Profiler trace", command=found.measure)

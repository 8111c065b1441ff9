"""Lab 09, The Optimization Trap: the decision log of a performance engineer, from runs."""

from collections.abc import Iterator
from dataclasses import dataclass

from perfkit import units
from perfkit.analyzers.faults_result import Faults
from perfkit.analyzers.scaling_result import Scaling
from perfkit.report import figure_svg, scaling_charts, show
from perfkit.report.names import name
from perfkit.report.writeup import figures, iron, lab04_changes, ledger, words
from perfkit.report.writeup.document import (
    Block,
    Bullets,
    Document,
    Figure,
    Gap,
    Grid,
    Heading,
    Paragraph,
    YourTurn,
)
from perfkit.report.writeup.evidence import Arm, Evidence, speed_up
from perfkit.roofline.model import ridge

PUBLISHED = (("A100", 312e12, 2039e9), ("H100", 989.4e12, 3350e9))
"""Dense 16-bit peak and memory bandwidth of the SXM 80 GB cards, from their data sheets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """Results of other commands."""

    scalings: tuple[Scaling, ...] = ()
    faults: Faults | None = None


def build(found: Evidence, more: More, line: str) -> Document:
    """Return the write-up; `line` is the command that made it."""
    terms = iron.terms_of(found.base)
    blocks = [
        *_question(found, terms),
        *words.setup(found),
        *words.method(found),
        *_iron_law(found, terms),
        *_bottleneck(found),
        *_roofline(found),
        *_trap(found),
        *_scaling(more),
        *_fleet(found, more),
        *_conclusion(found),
        *words.threats(found),
        *words.reproduce(found, line),
    ]
    return Document(
        title="Lab 09: The Optimization Trap",
        blocks=tuple(blocks),
        ledger=ledger.ledger(found, terms, found.price_per_rank_hour),
    )


def _question(found: Evidence, terms: iron.Terms) -> Iterator[Block]:
    yield Heading(text="Question")
    binding = f"It is {iron.WORDS[terms.binding]}. " if terms.binding else ""
    yield Paragraph(
        text="Which term of the Iron Law binds a training step, and what happens to someone who "
        f"optimizes another one? {binding}"
        f"{show.sentence(name(found.base.first.verdict.sentence, 500))}"
    )


def _iron_law(found: Evidence, terms: iron.Terms) -> Iterator[Block]:
    yield Heading(text="Decision log in Iron Law terms")
    yield Paragraph(
        text="Time = max(compute / FLOPS, bytes / bandwidth, network bytes / network bandwidth) + "
        "overhead. Each term is a least time: work over a ceiling. What the step takes beyond the "
        "largest of them is overhead, whatever it is made of: lower efficiency than the ceiling, "
        "transfers that are not hidden, waiting, host work."
    )
    rows = [(t.title, t.work, t.ceiling, t.time, t.note) for t in terms.rows()]
    header = ("Term", "Work a step", "Ceiling", "Least time", "Remark")
    yield Grid(header=header, rows=tuple(rows), prose=4)
    yield Paragraph(text=terms.sentence())
    if terms.lacking:
        yield Gap(what=", ".join(terms.lacking), command="perfkit ceilings --out RUN/ceilings.json")


def _bottleneck(found: Evidence) -> Iterator[Block]:
    run = found.base.first
    yield Heading(text="The dominant bottleneck and its evidence")
    yield Paragraph(text=show.sentence(name(run.verdict.sentence, 600)))
    drawn = figures.budgets([found.base, *found.others], "budget")
    if drawn is not None:
        yield drawn
    if run.budget.per_rank:
        after = run.verdict.rollup_after_blame
        rows = tuple(
            (family, units.percent(share), units.percent(after.get(family)))
            for family, share in run.budget.rollup.items()
        )
        yield Grid(header=("Family", "Share of the step", "After blame"), rows=rows)
    items = [
        f"{name(f.title, 120)}: {show.sentence(name(f.evidence, 300))}"
        for f in run.findings
        if f.evidence
    ]
    if run.second_opinion is not None and not run.second_opinion.refused:
        items.append(_second(run.second_opinion.shares))
    if items:
        yield Bullets(items=tuple(items))


def _second(shares: dict[str, float]) -> str:
    told = ", ".join(f"{k.replace('_', ' ')} {units.percent(v)}" for k, v in shares.items() if v)
    return f"Second opinion, the critical path of the captured steps: {told}."


def _roofline(found: Evidence) -> Iterator[Block]:
    run = found.base.first.roofline
    yield Heading(text="Roofline")
    drawn = figures.roofline(found.base)
    if drawn is not None:
        yield drawn
    rows = [
        (f"{card} SXM 80 GB, 16 bits, published", units.flops(peak), units.bandwidth(speed / 1e9),
         f"{ridge(peak, speed):.0f}")
        for card, peak, speed in PUBLISHED
    ]  # fmt: skip
    ceilings = run.ceilings if run is not None else ()
    slopes = [c for c in ceilings if c.quantity == "memory"]
    for peak in (c for c in ceilings if c.quantity == "matrix"):
        rows += [
            (
                f"this machine, {peak.precision}, {peak.source}",
                units.flops(peak.value),
                units.bandwidth(slope.value / 1e9),
                units.number(peak.value / slope.value),
            )
            for slope in slopes[:1]
        ]
    header = ("Machine", "Peak", "Memory bandwidth", "Ridge (FLOP/byte)")
    yield Grid(header=header, rows=tuple(rows))
    yield Paragraph(
        text="Left of its ridge a computation is bound by memory, right of it by arithmetic. "
        f"{_intensity(found)}"
    )
    yield from _network_roof(found)


def _intensity(found: Evidence) -> str:
    run = found.base.first.roofline
    known = [s.intensity for s in run.ranks if s.intensity] if run is not None else []
    if not known:
        return "The arithmetic intensity of this step is not known: it has no trace with shapes."
    mean = sum(known) / len(known)
    return f"This training does {units.number(mean)} FLOP per byte of compulsory memory traffic."


def _network_roof(found: Evidence) -> Iterator[Block]:
    run = found.base.first.roofline
    levels = run.network if run is not None else ()
    if not levels:
        return
    yield Heading(text="Multi-node roofline", level=3)
    rows = tuple(
        (
            level.level,
            units.number(level.intensity),
            units.number(level.ridge) if level.ridge else "no ceiling measured",
            units.ratio(level.work_factor) if level.work_factor else "-",
        )
        for level in levels
    )
    header = ("Level", "FLOP per bus byte", "Ridge", "More work a rank that reaches the ridge")
    yield Grid(header=header, rows=rows)
    yield Paragraph(
        text="The network is one more slope: below its ridge the step is bound by what ranks send "
        "each other, whatever their arithmetic could do. A larger batch of a rank moves a "
        "data-parallel training to the right, more ranks do not."
    )


def _trap(found: Evidence) -> Iterator[Block]:
    yield Heading(text="The trap, beside the change that mattered")
    rows = []
    for role, title in (("trap", "The trap: another term"), ("fix", "The binding term")):
        arm = found.arm(role)
        if arm is not None:
            rows.append(_predicted(title, found, arm))
    if rows:
        header = ("Change", "What", "Predicted before", "Measured", "Gap")
        yield Grid(header=header, rows=tuple(rows), numeric=2)
    for role in ("trap", "fix"):
        arm = found.arm(role)
        if arm is not None:
            yield Paragraph(
                text=f"{'Trap' if role == 'trap' else 'Fix'}: {words.judged(found.base, arm)} "
                f"{lab04_changes.explanation(found, arm)}"
            )
        elif found.refusal(role):
            yield Paragraph(text=f"No {role} was run: {name(found.refusal(role), 300)}.")
        else:
            yield Gap(what=f"a run of the {role}", command=found.measure)
    yield from _idle(found)
    yield YourTurn(
        question="Why did the trap look like a good idea, and which number would have warned you?"
    )


def _predicted(title: str, found: Evidence, arm: Arm) -> tuple[str, ...]:
    got = speed_up(found.base, arm)
    guess = arm.guess.speed_up if arm.guess is not None else None
    gap = "-" if got is None or guess is None else units.change(got.ratio / guess - 1)
    measured = "-" if got is None else words.interval(got)
    return (title, name(arm.applied or arm.role, 120), words.guessed(arm), measured, gap)


def _idle(found: Evidence) -> Iterator[Block]:
    what_if = found.base.first.what_if
    if what_if is None or not what_if.no_gain:
        return
    yield Paragraph(text="More traps, by replaying the captured steps (predicted, not measured):")
    yield Bullets(
        items=tuple(
            f"{name(', '.join(p.changes), 100)}: {units.ratio(p.speed_up)}" for p in what_if.no_gain
        )
    )


def _scaling(more: More) -> Iterator[Block]:
    yield Heading(text="Strong against weak scaling")
    modes = {one.mode for one in more.scalings}
    for found in more.scalings:
        yield Paragraph(text=" ".join(found.sentences))
        rows = tuple(
            (
                f"{p.ranks}{' (more than cores)' if p.oversubscribed else ''}",
                units.milliseconds(p.step_ms),
                units.rate(p.samples_per_s, "samples"),
                units.ratio(p.speed_up),
                units.percent(p.efficiency),
            )
            for p in found.points
        )
        header = ("Ranks", "Step", "Throughput", "Speed-up", "Efficiency")
        yield Grid(header=header, rows=rows)
        title = f"{found.mode.capitalize()} scaling"
        charts = [scaling_charts.step_chart(found), scaling_charts.efficiency_chart(found)]
        drawing = figure_svg.figure(title, charts)
        yield Figure(name=f"scaling-{found.mode}", caption=title, svg=drawing)
    for mode in sorted({"strong", "weak"} - modes):
        yield Gap(
            what=f"{mode} scaling in your own numbers (then --scale DIR)",
            command=f"perfkit scale --ranks 1,2,4 --mode {mode} --batch B --out DIR -- CMD",
        )


def _fleet(found: Evidence, more: More) -> Iterator[Block]:
    yield Heading(text="The fleet form")
    yield Paragraph(
        text="Time = FLOPs / (N x peak x MFU x scaling efficiency x goodput). Its logarithm is a "
        "sum, so that each factor's share of a change adds up."
    )
    factors = iron.fleet(found.base, more.scalings, more.faults)
    yield Grid(header=("Factor", "Value", "From"), rows=tuple(factors.rows), prose=2)
    yield Paragraph(text=factors.sentence)
    for what, command in factors.lacking:
        yield Gap(what=what, command=command)


def _conclusion(found: Evidence) -> Iterator[Block]:
    yield Heading(text="What was decided")
    yield YourTurn(
        question="Write the decision in one sentence: the binding constraint, the change, what it "
        "was predicted and measured to gain, and what binds next."
    )
    fix = found.arm("fix")
    if fix is not None:
        yield Paragraph(text=lab04_changes.before_and_after(found, fix))
    yield ledger.cost_table(found, found.price_per_rank_hour)
    yield Paragraph(
        text="Cost is ranks over throughput: what a sample takes of the hardware, whatever its "
        "price. A change that makes a step faster on the same ranks is cheaper by as much."
    )

"""The lab reports: their numbers are those of the runs, gaps are named, names stay text."""

import dataclasses
import json
import re
from collections.abc import Sequence
from xml.etree.ElementTree import fromstring

import pytest
from msgspec.structs import replace

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.report.writeup import communication, iron, lab04, lab09, markdown, page
from perfkit.report.writeup.document import (
    Document,
    Figure,
    Gap,
    Grid,
    Heading,
    YourTurn,
)
from perfkit.report.writeup.evidence import (
    BASE,
    SILENT,
    Arm,
    Evidence,
    Guess,
    Machine,
    speed_up,
    work_ratio,
)
from perfkit.report.writeup.ledger import precision_of
from tests.report.parts import HOSTILE
from tests.report.sample import hostile_gpu, io_bound

LINE = "perfkit writeup lab04 base"
MACHINE = Machine(hardware="2 processors", software="torch 2", command="torchrun train.py")


def run(factor: float = 1.0) -> Analysis:
    """The I/O-bound sample, so many times as fast."""
    made = io_bound()
    rate = made.throughput.samples_per_s
    step = made.steps.median_ms
    assert rate is not None
    assert step is not None
    return replace(
        made,
        throughput=replace(made.throughput, samples_per_s=rate * factor),
        steps=replace(made.steps, median_ms=step / factor),
    )


def arm(role: str, factors: Sequence[float], **more: object) -> Arm:
    return Arm(
        role=role,
        runs=tuple(f"runs/{role}-run{k + 1}" for k in range(len(factors))),
        analyses=tuple(run(f) for f in factors),
        **more,  # type: ignore[arg-type]
    )


def evidence(*arms: Arm) -> Evidence:
    return Evidence(machine=MACHINE, arms=arms, traces=("base: t.json.gz",), measure="MEASURE")


BASELINE = arm(BASE, (1.0, 1.01, 0.99), losses=(2.0, 2.0, 2.0), loss_step=39)
FULL = evidence(
    BASELINE,
    arm(SILENT, (1.25, 1.26, 1.24)),
    arm(
        "amp",
        (1.5, 1.52, 1.48),
        losses=(2.02,),
        guess=Guess(speed_up=1.4, low=1.3, high=1.6, why="w"),
    ),
    arm("accum", (1.0, 1.03, 0.97)),
    arm("loader", (1.3, 1.31, 1.29)),
    arm("all", (2.0, 2.02, 1.98)),
)


def grid(document: Document, first: str) -> Grid:
    return next(b for b in document.blocks if isinstance(b, Grid) and b.header[0] == first)


def test_a_speed_up_is_that_of_the_throughputs_with_its_interval() -> None:
    known = speed_up(BASELINE, arm("amp", (1.5, 1.52, 1.48)))
    assert known is not None
    assert known.ratio == pytest.approx(1.5, rel=1e-3)
    assert known.low is not None
    assert known.high is not None
    assert known.low < 1.5 < known.high
    assert known.proven is True
    assert speed_up(BASELINE, arm("x", (1.0, 1.03, 0.97))).proven is False  # type: ignore[union-attr]
    one = speed_up(arm(BASE, (1.0,)), arm("amp", (1.5,)))
    assert one is not None
    assert (one.low, one.proven) == (None, None)


def test_communication_by_both_ways() -> None:
    traced, lab = communication.by_trace(FULL), communication.by_lab(FULL)
    assert traced is not None
    assert lab is not None
    assert lab.share == pytest.approx(1 - 1 / 1.25, rel=1e-3)
    assert traced.share == pytest.approx(BASELINE.first.budget.rollup["communication"])
    assert traced.communication_ms == pytest.approx(traced.share * (BASELINE.step_ms or 0))


def test_the_lab_s_table_has_its_five_rows() -> None:
    document = lab04.build(FULL, LINE)
    table = grid(document, "Optimization")
    assert table.header == ("Optimization", "Throughput", "Speedup", "Memory", "Accuracy")
    titles = [row[0] for row in table.rows]
    assert titles == ["Baseline", "+ AMP", "+ Grad Accum", "+ DataLoader", "+ All"]
    assert table.rows[1][2].startswith("1.50x (")
    assert "+1.0%" in table.rows[1][4]
    assert not document.gaps
    assert 700 < document.words < 2500
    assert document.words_of_analysis is not None
    assert 300 < document.words_of_analysis < document.words - 300
    assert sum(isinstance(block, YourTurn) for block in document.blocks) >= 5


def test_the_analysis_is_a_chapter_of_its_own() -> None:
    """What the lab sheet calls so: causes, both ways to communication, each change, the sum."""
    blocks = lab04.build(FULL, LINE).blocks
    chapters = [b.text for b in blocks if isinstance(b, Heading) and b.level == 2]
    assert chapters.index("Results") < chapters.index("Analysis")
    begin = blocks.index(Heading(text="Analysis"))
    end = blocks.index(Heading(text="Recommendations"))
    own = [b for b in blocks[begin:end] if isinstance(b, Heading)]
    assert [b.text for b in own if b.level == 4] == ["AMP", "Grad Accum", "DataLoader", "All"]
    assert [b.text for b in own if b.level == 3] == [
        "Where the time goes",
        "Compute against communication",
        "The optimizations, one by one",
        "What did not help, and why",
        "All together, and what is left",
        "Your analysis",
    ]
    assert Document(title="t", blocks=blocks[:begin]).words_of_analysis is None
    alone = Document(title="t", blocks=blocks[begin:end])
    assert alone.words_of_analysis == alone.words
    assert lab04.build(FULL, LINE).words_of_analysis == alone.words


def test_what_did_not_help_says_what_became_of_the_time_it_works_on() -> None:
    """The loader's input wait went as it should, and compute took longer instead."""

    def changed(**factors: float) -> Analysis:
        made = run(0.95)
        times = {
            key: None if t is None else replace(t, ms=t.ms * factors.get(key, 1.0))
            for key, t in made.budget.classes.items()
        }
        return replace(made, budget=replace(made.budget, classes=times))

    def told(made: Analysis) -> str:
        other = Arm(role="loader", runs=("r",) * 3, analyses=(made, made, made))
        text = markdown.render(lab04.build(evidence(BASELINE, other), LINE), "f")
        return text.split("What did not help, and why")[1].split("###")[0]

    text = told(changed(input_wait=0.1, compute=1.5))
    assert "What it works on did get shorter, waiting for input" in text
    assert "but not the rest: compute" in text
    assert "What it works on did not get shorter" in told(changed(input_wait=1.2))


def test_prediction_and_measurement_stand_side_by_side() -> None:
    text = markdown.render(lab04.build(FULL, LINE), "figures")
    assert "| Predicted, before it was measured | 1.40x (1.30x to 1.60x) |" in text
    assert "It is 7.1% above the prediction and inside its range" in text
    assert "no gain is shown, 1.00x" in text  # accumulation, among what did not help


def test_what_adds_nothing_is_not_recommended() -> None:
    amp = arm("amp", (1.5, 1.52, 1.48))
    same = evidence(BASELINE, amp, arm("all", (1.51, 1.49, 1.53)))
    text = markdown.render(lab04.build(same, LINE), "f")
    assert "Prefer + AMP to + All: all changes together are 1.01x (" in text
    more = evidence(BASELINE, amp, arm("all", (2.0, 2.02, 1.98)))
    assert "Prefer" not in markdown.render(lab04.build(more, LINE), "f")


def test_what_is_missing_is_a_gap_with_its_command() -> None:
    document = lab04.build(evidence(BASELINE), LINE)
    assert {gap.command for gap in document.gaps} == {"MEASURE"}
    what = " ".join(gap.what for gap in document.gaps)
    for row in ("+ AMP", "+ Grad Accum", "+ DataLoader", "+ All", "without gradient communication"):
        assert row in what
    assert grid(document, "Optimization").rows[1][1] == "missing"


def test_what_could_not_be_run_says_why_and_is_no_gap() -> None:
    refused = Arm(role="amp", runs=(), analyses=(), refused="autocast is on already")
    document = lab04.build(evidence(BASELINE, refused), LINE)
    text = markdown.render(document, "f")
    assert "It was not run: autocast is on already." in text
    assert not any("+ AMP" in gap.what for gap in document.gaps)


def test_figures_are_svg_with_every_arm() -> None:
    drawn = [b for b in lab04.build(FULL, LINE).blocks if isinstance(b, Figure)]
    assert {figure.name for figure in drawn} >= {"budget", "throughput"}
    for figure in drawn:
        fromstring(figure.svg)
    budget = next(f for f in drawn if f.name == "budget")
    assert all(title in budget.svg for title in ("Baseline", "+ AMP", "+ All"))


def hostile() -> Evidence:
    made = hostile_gpu(2)
    own = Arm(role=BASE, runs=("r",), analyses=(made,))
    other = Arm(role="trap", runs=("t",), analyses=(made,), applied=HOSTILE[0])
    machine = Machine(hardware=HOSTILE[0], software=HOSTILE[1], command=HOSTILE[0])
    return Evidence(machine=machine, arms=(own, other), traces=(HOSTILE[0],), measure=HOSTILE[0])


@pytest.mark.parametrize("lab", ["lab04", "lab09"])
def test_hostile_names_stay_text(lab: str) -> None:
    found = hostile()
    document = (
        lab04.build(found, HOSTILE[0])
        if lab == "lab04"
        else lab09.build(found, lab09.More(), HOSTILE[0])
    )
    html = page.render(document)
    assert "<img" not in html
    assert "<script" not in html
    text = markdown.render(document, "f")
    outside = "\n".join(
        line for line in text.splitlines() if not line.startswith(("    ", ">     "))
    )
    assert not re.search(r"(?<!\\)<img", outside)


def test_the_iron_law_s_terms_bind_by_their_size() -> None:
    terms = iron.Terms(
        step_s=0.1, flop=4e9, peak_flop_per_s=1e11, bytes=5e8, network_bytes=1e6,
        compute_s=0.04, memory_s=0.05, network_s=0.01,
    )  # fmt: skip
    assert terms.binding == "memory"
    assert terms.overhead_s == pytest.approx(0.05)
    assert [t.note for t in terms.rows()[:3]] == ["", "binds", ""]
    assert "50% of the step" in terms.sentence()
    unknown = iron.Terms(
        step_s=0.1, flop=None, peak_flop_per_s=None, bytes=None, network_bytes=1.0,
        compute_s=None, memory_s=None, network_s=None,
    )  # fmt: skip
    assert (unknown.binding, unknown.overhead_s, len(unknown.lacking)) == (None, None, 3)


def test_lab_09_holds_trap_and_fix_and_a_ledger() -> None:
    guess = Guess(speed_up=1.0, low=0.99, high=1.01, why="w")
    trap = arm("trap", (1.0, 1.01, 0.99), guess=guess)
    fix = arm("fix", (1.5, 1.52, 1.48), guess=Guess(speed_up=1.6, low=1.2, high=1.8, why="w"))
    document = lab09.build(evidence(BASELINE, trap, fix), lab09.More(), LINE)
    table = grid(document, "Change")
    assert [row[2].split(" ")[0] for row in table.rows] == ["1.00x", "1.60x"]
    assert [row[3].split(" ")[0] for row in table.rows] == ["1.00x", "1.50x"]
    gaps = " ".join(gap.what for gap in document.gaps)
    assert "strong scaling" in gaps
    assert "goodput" in gaps
    ledger = json.loads(json.dumps(document.ledger))
    assert [v["variant"] for v in ledger["variants"]] == ["base", "trap", "fix"]
    assert ledger["variants"][2]["speed_up"] == pytest.approx(1.5, rel=1e-3)
    rate = BASELINE.rate
    assert rate is not None
    costs = ledger["variants"][0]
    assert costs["cost_rank_seconds_per_sample"] == pytest.approx(2 / rate)
    assert costs["cost_per_sample"] is None  # no price was given
    text = markdown.render(document, "f")
    assert "| 153 |" in text  # A100
    assert "| 295 |" in text  # H100


def test_the_ledger_names_the_precision_that_matrix_products_ran_in() -> None:
    """Not what the script asks for: a recipe's autocast leaves no fact behind."""
    found = hostile_gpu()
    assert found.roofline is not None
    points = [p for p in found.roofline.points if p.unit == "tensor"]
    assert points and precision_of(found) == "bf16"
    few = dataclasses.replace(points[0], precision="fp32", executed_flop=1.0)
    mixed = replace(found, roofline=dataclasses.replace(found.roofline, points=(few, *points)))
    assert precision_of(mixed) == "bf16 and fp32"
    facts = replace(found.run, facts={"autocast": "torch.float16"})
    assert precision_of(replace(found, roofline=None, run=facts)) == "torch.float16"
    assert precision_of(replace(found, roofline=None)) is None


def counted(factor: float, tokens: int) -> Analysis:
    made = run(factor)
    rate = made.throughput.samples_per_s
    assert rate is not None
    return replace(made, throughput=replace(made.throughput, tokens_per_s=rate * tokens))


def test_cost_is_ranks_over_throughput_times_the_price() -> None:
    base = Arm(role=BASE, runs=("b",), analyses=(counted(1.0, 128),))
    fix = Arm(role="fix", runs=("f",), analyses=(counted(2.0, 128),))
    found = dataclasses.replace(evidence(base, fix), price_per_rank_hour=3.6)
    document = lab09.build(found, lab09.More(), LINE)
    rate = base.rate
    assert rate is not None
    first, second = json.loads(json.dumps(document.ledger))["variants"]
    assert first["cost_rank_seconds_per_token"] == pytest.approx(2 / rate / 128)
    assert first["cost_per_sample"] == pytest.approx(2 / rate * 3.6 / 3600)
    assert second["cost_per_token"] == pytest.approx(first["cost_per_token"] / 2)
    table = grid(document, "Variant")
    assert table.header[1:] == (
        "Rank-seconds per 1,000 samples",
        "Rank-seconds per million tokens",
        "Price of 1,000 samples",
        "Price of a million tokens",
    )
    assert table.rows[0][1] == units.number(2 / rate * 1e3)


def test_bytes_from_the_cache_are_named() -> None:
    terms = iron.Terms(
        step_s=0.1, flop=4e9, peak_flop_per_s=1e11, bytes=5e8, network_bytes=None,
        compute_s=0.04, memory_s=0.004, network_s=None, main_memory_bytes_per_s=4e10,
    )  # fmt: skip
    assert terms.rows()[1].note == "partly from the cache; main memory gives 40.0 GB/s"
    slower = dataclasses.replace(terms, memory_s=0.0125)
    assert slower.rows()[1].note == ""


def test_gaps_are_blocks_with_commands() -> None:
    blocks = lab04.build(evidence(BASELINE), LINE).blocks
    assert all(b.command for b in blocks if isinstance(b, Gap))


def test_a_step_that_holds_more_samples_is_not_compared_as_one() -> None:
    long = run(1.0)
    step, rate = long.steps.median_ms, long.throughput.samples_per_s
    assert step is not None
    assert rate is not None
    held = replace(
        long,
        steps=replace(long.steps, median_ms=step * 4 / 1.1),
        throughput=replace(long.throughput, samples_per_s=rate * 1.1),
    )
    both = Arm(role="all", runs=("r",) * 2, analyses=(held, held))
    assert work_ratio(BASELINE, both) == pytest.approx(4.0, rel=1e-3)
    assert work_ratio(BASELINE, arm("amp", (1.5, 1.5))) == 1.0
    text = markdown.render(lab04.build(evidence(BASELINE, both), LINE), "f")
    assert "a higher loss is expected" in text
    assert "a higher loss is expected" not in markdown.render(lab04.build(FULL, LINE), "f")
    assert "a step holds 4.00x the samples, so that step times do not compare" in text
    assert "per step's work (a step holds 4.00x of it)" in text


def test_a_variant_without_a_trace_is_not_explained_by_one() -> None:
    bare = replace(run(1.2), budget=replace(run().budget, per_rank=()))
    other = Arm(role="accum", runs=("r",), analyses=(bare,))
    text = markdown.render(lab04.build(evidence(BASELINE, other), LINE), "f")
    assert "One of the two has no trace" in text


def test_noise_is_no_negative_communication() -> None:
    noisy = evidence(BASELINE, arm(SILENT, (0.8, 1.1, 0.9)))
    lab = communication.by_lab(noisy)
    assert lab is not None
    assert lab.low is not None
    assert lab.low < 0
    text = markdown.render(lab04.build(noisy, LINE), "f")
    assert "this way cannot tell it here" in text
    known = communication.by_lab(FULL)
    assert known is not None
    assert known.low is not None
    assert known.high is not None
    assert 0 < known.low < 0.2 < known.high

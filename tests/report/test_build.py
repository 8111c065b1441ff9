"""The page model: what it says of each kind of run, and one page compared whole."""

import itertools
import os
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from perfkit.analyzers import result as r
from perfkit.report import palette, show, timeline
from perfkit.report.build import build
from perfkit.report.definitions import definitions
from perfkit.report.model import BarChart, Headline, Note, Page, SeriesChart, Table, TimelineChart
from tests.report.sample import SAMPLES, hostile_gpu, io_bound, no_trace, single_rank

GOLDEN = Path(__file__).parent / "golden" / "single_rank.json"
T = TypeVar("T")
COMPARED = {"verdict", "next", "budget", "classes", "communication", "quality", "run"}


def blocks(page: Page, kind: type[T]) -> list[T]:
    return [b for s in page.sections for b in s.blocks if isinstance(b, kind)]


def table(page: Page, table_id: str) -> Table:
    return next(t for t in blocks(page, Table) if t.id == table_id)


def texts(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def test_a_page_is_what_it_was() -> None:
    page = build(single_rank())
    kept = msgspec.structs.replace(
        page, sections=tuple(s for s in page.sections if s.id in COMPARED)
    )
    encoded = msgspec.json.format(msgspec.json.encode(kept), indent=1).decode() + "\n"
    if os.environ.get("PERFKIT_UPDATE_GOLDEN"):
        GOLDEN.write_text(encoded, encoding="utf-8")
    assert encoded == GOLDEN.read_text("utf-8"), "if meant: PERFKIT_UPDATE_GOLDEN=1 pytest " + str(
        Path(__file__).relative_to(Path(__file__).parents[2])
    )


def test_two_runs_of_one_command_can_be_told_apart() -> None:
    """By the name that their folder gives them, and by the recipes that they were started with."""
    plain = single_rank()
    facts = msgspec.structs.replace(plain.run, facts={**plain.run.facts, "recipes": "amp-bf16"})
    other = msgspec.structs.replace(plain, run=facts)
    assert build(plain, called="base-run1").title == "base-run1 · perfkit"
    assert build(plain).title == f"{plain.run.run_id} · perfkit"
    assert "python train.py · with amp-bf16 · 1 rank" in build(other).subtitle
    assert "with" not in build(plain).subtitle


@pytest.mark.parametrize("sample", SAMPLES)
def test_building_is_repeatable_and_ids_are_unique(sample: str) -> None:
    page = build(SAMPLES[sample]())
    assert page == build(SAMPLES[sample]())
    ids = [s.id for s in page.sections]
    ids += [b.id for s in page.sections for b in s.blocks if isinstance(b, Table | BarChart)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_meaning_is_defined(sample: str) -> None:
    page = build(SAMPLES[sample]())
    used = {c.meaning for t in blocks(page, Table) for c in t.columns if c.meaning}
    used |= {f.meaning for h in blocks(page, Headline) for f in h.tiles if f.meaning}
    assert used <= set(definitions())
    assert not [
        c.title
        for t in blocks(page, Table)
        for c in t.columns
        if c.numeric and not c.meaning and c.title not in ("Step", "Ranks", "Period", "Times")
    ]


def test_what_is_not_recorded_is_never_zero() -> None:
    page = build(hostile_gpu())
    classes = table(page, "class-table")
    assert "checkpoint" not in [row[0] for row in texts(classes)]
    assert "neither zero nor counted: checkpoint, waiting for input" in classes.note
    unmatched = texts(table(page, "collectives"))[1]
    assert unmatched[3] == unmatched[6] == unmatched[7] == unmatched[10] == "not recorded"
    tiles = {f.name: f.text for f in page.sections[0].blocks[0].tiles}  # type: ignore[union-attr]
    assert tiles["Median profiled step"] == "116 ms" and "Throughput" not in tiles


def test_bars_fill_the_longest_window_and_no_more() -> None:
    for sample in (io_bound, hostile_gpu, single_rank):
        for chart in blocks(build(sample()), BarChart):
            widths = [sum(s.width for s in bar.segments) for bar in chart.bars]
            assert max(widths) == pytest.approx(100, abs=0.02), chart.id


def test_a_run_without_a_trace_says_so_and_shows_its_steps() -> None:
    page = build(no_trace())
    assert [s.id for s in page.sections] == [
        *("verdict", "next", "budget", "run-steps", "quality", "run")
    ]
    headline = blocks(page, Headline)[0]
    assert headline.label == "undetermined"
    assert headline.would_change == "perfkit profile --window 2:5 -- torchrun train.py"
    assert len(blocks(page, SeriesChart)[0].points) == 7


def test_mixed_and_tentative_verdicts_name_their_doubt() -> None:
    mixed, tentative = (blocks(build(f()), Headline)[0] for f in (io_bound, hostile_gpu))
    assert mixed.badge == "mixed: compute and I/O"
    assert mixed.would_change.startswith("I/O follows 7 points behind; one family is named alone")
    assert tentative.doubts[0] == "Tentative: 4 steps analysed, 8 are needed to be sure."
    assert mixed.doubts == ()


def test_findings_come_by_severity_then_gain() -> None:
    titles = [b.title for b in build(io_bound()).sections[1].blocks]  # type: ignore[union-attr]
    assert titles[0] == "Rank 1 waits for its input" and titles[-1].startswith("Each rank uses")


def test_the_series_marks_slow_steps_and_the_profiled_window() -> None:
    chart = blocks(build(io_bound()), SeriesChart)[0]
    assert [p.hover.split(":")[0] for p in chart.points if p.slow] == ["step 40", "step 80"]
    assert [s.label for s in chart.spans] == ["profiled: steps 10 to 19"]
    assert all(sum(height for _, height in p.parts) <= 100.001 for p in chart.points)


def test_a_long_series_keeps_its_slowest_steps() -> None:
    steps = io_bound().steps
    points = tuple(
        msgspec.structs.replace(steps.series[0], step=i, ms=999.0 if i == 4321 else 100.0)
        for i in range(10_000)
    )
    analysis = msgspec.structs.replace(
        io_bound(), steps=msgspec.structs.replace(steps, series=points)
    )
    chart = blocks(build(analysis), SeriesChart)[0]
    assert len(chart.points) <= 600 and any("999 ms" in p.hover for p in chart.points)
    assert "10,000 steps in" in chart.note


def crowded(count: int) -> r.Timeline:
    spans = tuple(
        r.TimelineSpan(start_us=float(i), duration_us=0.5, class_="compute", label=f"k{i % 7}")
        for i in range(count)
    )
    lanes = (r.TimelineLane(rank=0, lane="compute", spans=spans),)
    return r.Timeline(step=3, span_us=float(count), lanes=lanes, windows=((0, 0.0, count),))


def test_a_crowded_lane_is_merged_and_keeps_its_time() -> None:
    drawn = timeline.chart(crowded(50_000), set())
    marks = drawn.lanes[0].marks
    assert len(marks) <= timeline.LANE_MARKS
    assert sum(m.events for m in marks) == 50_000
    assert sum(m.duration for m in marks) == pytest.approx(25_000, rel=1e-3)
    assert "merged" in drawn.note


def test_merging_is_as_fine_as_the_limit_allows() -> None:
    marks = timeline.chart(crowded(50_000), set()).lanes[0].marks
    assert len(marks) >= timeline.LANE_MARKS / 2
    assert all(m.duration <= 50_000 / 500 for m in marks)


def test_a_lane_of_every_class_stays_within_its_limit() -> None:
    spans = tuple(
        msgspec.structs.replace(s, class_=key)
        for s, key in zip(
            crowded(50_000).lanes[0].spans, itertools.cycle(palette.ORDER), strict=False
        )
    )
    lane = r.TimelineLane(rank=0, lane="host", spans=spans)
    drawn = timeline.chart(msgspec.structs.replace(crowded(50_000), lanes=(lane,)), set())
    assert len(drawn.lanes[0].marks) <= timeline.LANE_MARKS
    assert sum(m.events for m in drawn.lanes[0].marks) == 50_000


def test_a_lane_that_fits_is_left_alone() -> None:
    drawn = timeline.chart(crowded(2_000), set())
    assert len(drawn.lanes[0].marks) == 2_000 and drawn.note == ""


def test_many_lanes_share_the_marks_of_a_page() -> None:
    one = crowded(3_000).lanes[0]
    lanes = tuple(msgspec.structs.replace(one, rank=i) for i in range(256))
    drawn = timeline.chart(msgspec.structs.replace(crowded(3_000), lanes=lanes), set())
    assert sum(len(lane.marks) for lane in drawn.lanes) <= timeline.PAGE_MARKS


def test_the_timeline_numbers_collectives_alike_on_every_rank() -> None:
    chart = blocks(build(io_bound()), TimelineChart)[0]
    per_rank = [
        {m.collective for m in lane.marks} for lane in chart.lanes if lane.name == "communication"
    ]
    assert per_rank == [{0, 1, 2, 3}] * 2
    assert [lane.rank for lane in chart.lanes if lane.straggler] == ["rank 1"] * 4


def test_ranks_read_as_ranges() -> None:
    assert show.ranks((0, 1, 2, 5, 7, 8)) == "ranks 0-2, 5, 7-8"
    assert show.ranks(tuple(range(64)), 64) == "all 64 ranks"


@pytest.mark.parametrize("top", [1e-6, 0.9, 3, 127, 999, 1e9])
def test_ticks_are_few_round_and_within(top: float) -> None:
    marks = show.ticks(top)
    assert 3 <= len(marks) <= 7 and marks[0] == 0 and marks[-1] <= top * 1.000001


def test_flaws_of_one_kind_are_told_once_and_listed() -> None:
    flaws = tuple(
        r.QualityIssue(code="LAUNCHES_MISSING", severity="warning", message=f"{i}", ranks=(i,))
        for i in range(8)
    )
    analysis = hostile_gpu()
    quality = msgspec.structs.replace(analysis.quality, issues=flaws)
    page = build(msgspec.structs.replace(analysis, quality=quality))
    notes = [n for n in blocks(page, Note) if n.code]
    assert [n.text for n in notes] == ["0; 7 more of this kind below (all 8 ranks)"]
    assert len(table(page, "issues").rows) == 8


def test_a_step_without_length_has_no_timeline() -> None:
    analysis = io_bound()
    assert analysis.timeline is not None
    empty = msgspec.structs.replace(analysis.timeline, span_us=0.0)
    page = build(msgspec.structs.replace(analysis, timeline=empty))
    assert "timeline" not in [s.id for s in page.sections]

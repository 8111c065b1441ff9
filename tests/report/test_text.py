"""The terminal summary: one screen, within its width, nothing that moves the cursor."""

import re

import msgspec
import pytest

from perfkit.analyzers.result import Blame
from perfkit.report.names import cells
from perfkit.report.overview import gain
from perfkit.report.text import LINES, render
from tests.report.parts import HOSTILE
from tests.report.sample import SAMPLES, hostile_gpu, io_bound, no_trace

ANSI = re.compile(r"\x1b\[[0-9;]*m")
REPORT = "/tmp/run/report.html"


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("width", [80, 81, 100, 120, 200])
@pytest.mark.parametrize("color", [False, True])
def test_it_fits_one_screen(sample: str, width: int, color: bool) -> None:
    shown = render(SAMPLES[sample](), width=width, color=color, report_path=REPORT)
    lines = ANSI.sub("", shown).splitlines()
    assert len(lines) <= LINES
    assert max(cells(line) for line in lines) <= width
    assert shown.endswith("\n") and not shown.endswith("\n\n")


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("width", [1, 40, 50, 60, 79])
def test_a_narrow_terminal_wraps_within_its_width(sample: str, width: int) -> None:
    shown = render(SAMPLES[sample](), width=width, color=False, report_path=REPORT)
    assert max(cells(line) for line in shown.splitlines()) <= max(width, 40)


@pytest.mark.parametrize("sample", SAMPLES)
def test_colours_change_nothing_but_colours(sample: str) -> None:
    plain, painted = (
        render(SAMPLES[sample](), width=80, color=c, report_path=REPORT) for c in (False, True)
    )
    assert "\x1b" not in plain
    assert ANSI.sub("", painted) == plain


def test_it_says_verdict_why_next_quality_and_where() -> None:
    shown = render(io_bound(), width=80, color=False, report_path=REPORT)
    lines = shown.splitlines()
    assert lines[0] == "perfkit: mixed: compute and I/O (compute leads in 99% of redraws)"
    assert "rank 1 waits 52.0 ms a step for input" in shown.replace("\n", " ")
    assert "1. Rank 1 waits for its input (at most 1.69x)" in shown
    assert "DataLoader(..., num_workers=4, persistent_workers=True)" in shown
    assert "Capture  ok; 10 steps analysed on 2 of 2 ranks" in shown
    assert f"Report   {REPORT}" in lines
    assert "4. Each rank" not in shown


def test_bars_have_the_length_of_their_window() -> None:
    shown = render(io_bound(), width=80, color=False, report_path="")
    bars = [line for line in shown.splitlines() if line.startswith("rank ") and "█" in line]
    drawn = ["".join(c for c in bar if c in "█▓▒░") for bar in bars]
    assert [len(d) for d in drawn] == [80 - 9 - 8 - 1] * 2
    assert drawn[0].count("▓") == round(55 / 127 * 62)


def test_many_ranks_show_the_late_one() -> None:
    analysis = hostile_gpu(64)
    late = msgspec.structs.replace(analysis.stragglers[0], rank=47)
    shown = render(
        msgspec.structs.replace(analysis, stragglers=(late,)),
        width=80,
        color=False,
        report_path=REPORT,
    )
    assert "rank 47  █" in shown and "more ranks; the latest and slowest are shown" in shown


def test_the_rank_that_is_waited_for_most_has_a_bar_though_no_straggler() -> None:
    """As in one step alone, where nobody can be late too often for chance."""
    analysis = hostile_gpu(64)
    blame = tuple(Blame(rank=r, class_="host_launch", ms=ms) for r, ms in ((3, 1.0), (41, 2.0)))
    verdict = msgspec.structs.replace(analysis.verdict, blame=blame)
    without = msgspec.structs.replace(analysis, stragglers=(), verdict=verdict)
    shown = render(without, width=80, color=False, report_path=REPORT)
    assert "rank 41  " in shown and "rank 3  " not in shown


def test_a_ceiling_says_no_more_than_it_knows() -> None:
    found = hostile_gpu(2).findings[0]
    assert gain(msgspec.structs.replace(found, gain_ceiling=3.93)) == "at most 3.93x"
    assert gain(msgspec.structs.replace(found, gain_ceiling=7.58e6)) == "limit over 100x"
    assert gain(msgspec.structs.replace(found, gain_ceiling=None)) == ""


def test_no_trace_names_the_line_that_would_settle_it() -> None:
    shown = render(no_trace(), width=80, color=False, report_path=REPORT)
    assert shown.splitlines()[0] == "perfkit: cannot tell (tentative)"
    assert "Then     perfkit profile --window 2:5 -- torchrun train.py" in shown


def test_hostile_names_move_no_cursor() -> None:
    shown = render(hostile_gpu(), width=80, color=False, report_path=f"/tmp/{HOSTILE[5]}")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


def test_no_confidence_is_claimed_where_there_is_none() -> None:
    analysis = hostile_gpu()
    assert "98% confident" in render(analysis, width=80, color=False, report_path="")
    one_step = msgspec.structs.replace(analysis.steps, analysed=1)
    unsure = msgspec.structs.replace(analysis.verdict, label="undetermined")
    for changed in (
        msgspec.structs.replace(analysis, steps=one_step),
        msgspec.structs.replace(analysis, verdict=unsure),
    ):
        assert "confident" not in render(changed, width=80, color=False, report_path="")

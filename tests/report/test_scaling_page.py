"""The page of a scaling series: every plot, marks of what is doubted, and offline."""

import re

import msgspec
import pytest

from perfkit import units
from perfkit.analyzers.scaling import Question, scale
from perfkit.analyzers.scaling_result import Scaling
from perfkit.report import scaling_charts, scaling_page, scaling_text
from tests.analyzers.scaling_series import ring_run, traffic
from tests.report.test_html import Reader


def series(*, crowded: bool = False, weak: bool = False, runs: int = 1) -> Scaling:
    """Return a judged series on 1, 2 and 4 ranks."""
    made = [
        ring_run(
            p, weak=weak, name=f"r{p}-{k}", factor=1 + k / 100, oversubscribed=crowded and p == 4
        )
        for p in (1, 2, 4)
        for k in range(runs)
    ]
    found = scale(
        made, Question(predict=(8, 16)), {r.name: traffic(r) for r in made if r.ranks > 1}
    )
    assert isinstance(found, Scaling)
    return found


@pytest.mark.parametrize("found", [series(), series(crowded=True), series(weak=True, runs=3)])
def test_the_page_is_whole_and_offline(found: Scaling) -> None:
    text = scaling_page.render(found)
    page = Reader(text)
    assert page.open == []
    assert not re.search(r'(?:src|href)="https?:', text)
    charts = {attributes.get("id") for tag, attributes in page.tags if tag == "figure"}
    expected = {"scaling-step", "scaling-throughput", "scaling-efficiency", "scaling-classes"}
    expected |= {"scaling-waterfall-2", "scaling-waterfall-4"}
    expected |= {"scaling-karp-flatt"} if found.mode == "strong" else set()
    assert charts == expected
    for sentence in found.sentences:
        assert sentence in text


def test_the_waterfall_goes_from_ideal_to_measured() -> None:
    four = series().points[-1]
    chart = scaling_charts.waterfall(four)
    first, last = chart.bars[0], chart.bars[-1]
    assert (first.label, last.label) == ("ideal", "measured")
    ends = [sum(s.width for s in bar.segments) for bar in chart.bars]
    assert ends[-1] == pytest.approx(100.0)
    steps = [bar.segments[-1].width for bar in chart.bars[1:-1]]
    assert first.segments[0].width + sum(steps) == pytest.approx(100.0, abs=0.2)


def test_points_with_more_ranks_than_cores_are_drawn_apart() -> None:
    plain, doubted = scaling_charts.efficiency_chart(series(crowded=True)).dots
    assert [dot.x for dot in plain.dots] == [1.0, 2.0]
    assert (doubted.name, [dot.x for dot in doubted.dots]) == ("more ranks than cores", [4.0])


def test_intervals_are_upright_lines_and_predictions_a_fan_that_widens() -> None:
    chart = scaling_charts.step_chart(series(runs=3))
    upright = [line for line in chart.lines if line.points[0][0] == line.points[-1][0]]
    assert len(upright) == 3
    assert all(chart.y.low < y < chart.y.high for line in upright for _, y in line.points)
    low, high = (line.points for line in chart.lines if line.dashed and not line.labelled)
    widths = [b[1] / a[1] for a, b in zip(low, high, strict=True)]
    assert widths[0] == 1.0 and widths == sorted(widths)


def test_the_terminal_says_what_was_lost_and_what_is_predicted() -> None:
    text = scaling_text.render(series(), report_path="scale.html")
    assert "communication that compute does not hide" in text
    assert re.search(r"physics +\S+ % leave-one-out error  <- used", text)
    assert re.search(r"8 ranks +\S+ ms \(\S+ ms to \S+ ms\)", text)
    assert text.endswith("Report: scale.html")


def test_the_losses_in_the_terminal_sum_to_the_time_over_the_ideal() -> None:
    """Three are named; what the others cost is said as well."""
    found = series()
    four = found.points[-1]
    over = four.step_ms - four.ideal_ms
    shares = (0.4, 0.2, 0.15, 0.15, 0.1)
    causes = ("exposed_transfer", "host", "input", "checkpoint", "copies")
    losses = tuple(
        msgspec.structs.replace(four.losses[0], cause=cause, ms=share * over)
        for cause, share in zip(causes, shares, strict=True)
    )
    points = (*found.points[:-1], msgspec.structs.replace(four, losses=losses))
    text = scaling_text.render(msgspec.structs.replace(found, points=points), report_path="s.html")
    (line,) = (line for line in text.splitlines() if line.startswith("  4 ranks: "))
    assert f"{units.milliseconds(0.25 * over)} all other causes together" in line
    alone = (msgspec.structs.replace(losses[0], ms=over),)
    points = (*found.points[:-1], msgspec.structs.replace(four, losses=alone))
    text = scaling_text.render(msgspec.structs.replace(found, points=points), report_path="s.html")
    assert "other causes" not in text.split("  4 ranks: ")[1].splitlines()[0]

"""Charts: axes, roofs that meet where they should, names that do not cover each other, figures."""

import itertools
from dataclasses import replace

import msgspec
import pytest

from perfkit import units
from perfkit.report import axes, geometry, interactive
from perfkit.report.build import build
from perfkit.report.collective_charts import bandwidth_chart, time_chart
from perfkit.report.model import Axis, BoundChart, Line, Note, PlotChart, SeriesChart, Table
from perfkit.report.roofline_charts import MOST_POINTS, bound_chart, roofline_chart
from perfkit.report.roofline_section import roofline_section
from perfkit.report.step_charts import network_chart, ridge_chart, step_bound_chart
from tests.report.roofline_parts import BANDWIDTH, LINK, PEAK, roofline
from tests.report.sample import hostile_gpu, io_bound

NAMES = ("aten::mm", "aten::layer_norm", "aten::addmm")


def drawn(chart: PlotChart | None) -> PlotChart:
    assert chart is not None
    return chart


def test_a_log_axis_holds_its_values_in_whole_decades() -> None:
    axis = axes.decades("FLOP/s", [3e9, 4.2e12, 0.0], units.flops)
    assert (axis.low, axis.high) == (1e9, 1e13)
    places = [tick.at for tick in axis.ticks]
    assert places == pytest.approx([0, 25, 50, 75, 100])
    assert [tick.text for tick in axis.ticks][:2] == ["1 GFLOP/s", "10 GFLOP/s"]
    assert axes.place(axis, 1e11) == pytest.approx(50)


def test_values_that_lie_close_are_not_pressed_together() -> None:
    axis = axes.near("step time", [2.78, 5.57, 7.9], units.milliseconds, suffix=" ms")
    assert (axis.low, axis.high, axis.values) == (2.0, 10.0, (2.0, 5.0, 10.0))
    assert [tick.text for tick in axis.ticks] == ["2 ms", "5 ms", "10 ms"]
    wide = axes.near("step time", [1.0, 1e6], units.milliseconds)
    assert wide == axes.decades("step time", [1.0, 1e6], units.milliseconds)


@pytest.mark.parametrize(
    ("points", "at_end", "above", "left"),
    [
        (((1.0, 9.0), (4.0, 2.0)), True, False, 40.0),  # falls: below its right end
        (((1.0, 2.0), (4.0, 9.0)), False, False, 10.0),
        (((1.0, 5.0), (4.0, 5.0)), True, True, 40.0),
    ],
)
def test_a_line_does_not_pass_through_its_name(
    points: tuple[tuple[float, float], ...], at_end: bool, above: bool, left: float
) -> None:
    axis = Axis(title="", low=0.0, high=10.0, ticks=())
    line = Line(name="ideal", points=points)
    (label,) = geometry.line_labels(PlotChart(id="c", caption="", x=axis, y=axis, lines=(line,)))
    assert (label.at_end, label.above, label.left) == (at_end, above, left)


@pytest.mark.parametrize("values", [[], [0.0], [1e-9], [5.0] * 3, [1.0, 1e18]])
def test_any_values_get_an_axis_with_few_labels(values: list[float]) -> None:
    for axis in (
        axes.decades("", values, units.number),
        axes.near("", values, units.number),
        axes.sizes("", values),
    ):
        assert 2 <= len(axis.ticks) <= 10
        assert all(0 <= axes.place(axis, value) <= 100 for value in values if value > 0)


def test_sizes_are_labelled_in_binary() -> None:
    axis = axes.sizes("", [1024.0, 4 << 20])
    assert all(text.replace(".", "").split()[0].isdigit() for text in (t.text for t in axis.ticks))
    assert axes.linear_sizes("", 12 << 30).ticks[1].text.endswith("GiB")


def test_memory_and_matrix_roof_meet_at_the_ridge() -> None:
    chart = drawn(roofline_chart(roofline(NAMES)))
    slope, flat = chart.lines
    assert slope.points[-1] == pytest.approx((PEAK / BANDWIDTH, PEAK))
    assert flat.points[0] == pytest.approx((PEAK / BANDWIDTH, PEAK))
    assert all(y == pytest.approx(x * BANDWIDTH) for x, y in slope.points)
    assert not slope.dashed and flat.dashed  # measured and published
    assert (slope.name, flat.name) == ("memory 2.00 TB/s", "matrix bf16 1.00 PFLOP/s")


def test_no_mark_lies_above_its_roof_unless_it_was_measured_there() -> None:
    chart = drawn(roofline_chart(roofline(NAMES)))
    for dot in (dot for group in chart.dots for dot in group.dots):
        assert dot.y <= min(PEAK, dot.x * BANDWIDTH) * 1.001


def test_marks_are_sized_by_time_and_named_by_limit() -> None:
    chart = drawn(roofline_chart(roofline(NAMES)))
    assert [(g.name, len(g.dots)) for g in chart.dots] == [("tensor-bound", 2), ("memory-bound", 1)]
    slowest = max((d for g in chart.dots for d in g.dots), key=lambda d: d.radius)
    assert slowest.hover.startswith("aten::layer_norm\n4096x1024, 1024x4096 bf16\n200 ms a step")
    assert "1 that compute nothing" in chart.note


def test_operators_beyond_the_limit_are_counted() -> None:
    many = roofline(tuple(f"op{i}" for i in range(MOST_POINTS + 50)))
    chart = drawn(roofline_chart(many))
    assert sum(len(group.dots) for group in chart.dots) == MOST_POINTS
    assert f"{MOST_POINTS} of {MOST_POINTS + 50}" in chart.note


def test_without_a_ceiling_operators_are_drawn_and_the_command_is_named() -> None:
    found = roofline(NAMES, placed=False)
    chart = drawn(roofline_chart(found))
    assert chart.lines == () and [g.name for g in chart.dots] == ["no ceiling known"]
    assert bound_chart(found) is None and network_chart(found) is None
    section = roofline_section(found)
    assert section is not None
    notes = [b.text for b in section.blocks if isinstance(b, Note)]
    (note,) = notes
    assert note.startswith("No roof is drawn over the operators: ")


def test_the_network_roof_has_its_ridge_at_peak_over_bandwidth() -> None:
    chart = drawn(network_chart(roofline(NAMES)))
    assert chart.lines[0].points[-1] == pytest.approx((PEAK / LINK, PEAK))
    assert [len(g.dots) for g in chart.dots] == [2]


def test_the_ridges_cross_where_all_three_take_equally_long() -> None:
    chart = drawn(ridge_chart(roofline(NAMES)))
    crossing = (PEAK / LINK, PEAK / BANDWIDTH)
    assert all(crossing in line.points for line in chart.lines)
    (x, y), _ = chart.lines[2].points
    assert x / y == pytest.approx(crossing[0] / crossing[1])


def test_bounds_are_shares_of_the_longest() -> None:
    chart = bound_chart(roofline(NAMES))
    assert chart is not None and max(row.measured for row in chart.rows) == 100
    longest = next(row for row in chart.rows if row.measured == 100)
    assert longest.text == "200 ms" and longest.least == pytest.approx(62.5)
    steps = step_bound_chart(roofline(NAMES))
    assert steps is not None and [row.name for row in steps.rows] == ["rank 0", "rank 1"]


def test_names_of_lines_never_cover_each_other() -> None:
    lines = tuple(
        Line(name=f"roof {i}", points=((1.0, v), (100.0, v))) for i, v in enumerate((90, 91, 92))
    )
    axis = axes.linear("", 100.0, units.number)
    labels = geometry.line_labels(PlotChart(id="c", caption="", x=axis, y=axis, lines=lines))
    bottoms = [label.bottom for label in labels]
    assert all(b - a >= 5 for a, b in itertools.pairwise(bottoms))
    assert [label.text for label in labels] == ["roof 0", "roof 1", "roof 2"]
    assert {label.y for label in labels} == {92}  # above the highest, no line runs through them
    assert [label.row for label in labels] == [0, 1, 2] and all(label.at_end for label in labels)


def test_findings_of_one_operator_are_told_once() -> None:
    section = roofline_section(roofline(NAMES))
    assert section is not None
    warnings = [b.text for b in section.blocks if isinstance(b, Note) and b.tone == "warning"]
    assert warnings == ["aten::mm reached 120% of its roof; 1 more like this"]


def test_many_findings_make_a_table() -> None:
    many = replace(roofline(NAMES), findings=tuple(f"op{i} reached 120%" for i in range(7)))
    section = roofline_section(many)
    assert section is not None
    notes = [b.text for b in section.blocks if isinstance(b, Note)]
    assert notes == ["7 operators above their ceilings: they are listed below."]
    found = next(b for b in section.blocks if isinstance(b, Table) and b.id == "roofline-findings")
    assert [row[0].text for row in found.rows] == list(many.findings)


def test_a_utilization_that_cannot_be_is_a_note_beside_many_operators() -> None:
    whole = tuple(f"utilization of 19{i}% ({i}) cannot be" for i in range(3))
    operators = tuple(f"op{i} reached 120%" for i in range(7))
    section = roofline_section(replace(roofline(NAMES), findings=(*operators, *whole)))
    assert section is not None
    notes = [b.text for b in section.blocks if isinstance(b, Note)]
    assert notes[0] == "utilization of 190% (0) cannot be; 2 more like this"


def test_columns_that_nothing_fills_are_left_out() -> None:
    def titles(placed: bool) -> list[str]:
        section = roofline_section(roofline(NAMES, placed=placed))
        assert section is not None
        found = next(b for b in section.blocks if isinstance(b, Table) and b.id == "above-roof")
        return [column.title for column in found.columns]

    assert "Of its roof" in titles(True) and "Of its roof" not in titles(False)
    assert "Time per step" in titles(False)


def test_collective_charts_need_two_kinds_of_call() -> None:
    analysis = hostile_gpu()
    chart = drawn(bandwidth_chart(analysis))
    places = sorted((dot.x, dot.y) for group in chart.dots for dot in group.dots)
    assert places == [(4096.0, 0.07e9), (float(25 << 20), 9.1e9)]
    times = drawn(time_chart(analysis))
    assert [group.name for group in times.dots] == ["transfer", "waiting for ranks"]
    one = msgspec.structs.replace(analysis, collectives=analysis.collectives[:1])
    assert bandwidth_chart(one) is None and time_chart(one) is None


def test_a_figure_carries_every_step_and_its_parts() -> None:
    chart = next(
        b for s in build(io_bound()).sections for b in s.blocks if isinstance(b, SeriesChart)
    )
    figure = interactive.figure(chart)
    bars = [trace for trace in figure["traces"] if trace["kind"] == "bars"]
    assert [trace["name"] for trace in bars] == [
        "waiting for input",
        "checkpoint",
        "rest of the step",
    ]
    totals = [sum(parts) for parts in zip(*(trace["y"] for trace in bars), strict=True)]
    assert totals == pytest.approx([p.ms for p in io_bound().steps.series], abs=1e-3)
    assert [i for i, key in enumerate(bars[2]["keys"]) if key] == [40, 80]
    assert figure["shaded"] == ((10, 19),)


def test_a_figure_of_bounds_is_in_milliseconds() -> None:
    chart = bound_chart(roofline(NAMES))
    assert isinstance(chart, BoundChart)
    figure = interactive.figure(chart)
    assert max(x for trace in figure["traces"] for x in trace["x"]) == pytest.approx(200.0)
    assert figure["y"]["labels"][-1] == chart.rows[0].name


def test_a_run_without_roofline_has_no_section() -> None:
    assert roofline_section(None) is None
    empty = replace(roofline(NAMES), points=(), cannot_tell=(), uncosted=())
    assert roofline_section(empty) is None

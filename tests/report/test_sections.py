"""Sections beside the verdict: memory, network fits, groups, efficiency, the critical path."""

import msgspec

from perfkit.analyzers import result as r
from perfkit.analyzers.result_replay import SecondOpinion
from perfkit.analyzers.result_whatif import Prospect, WhatIf
from perfkit.report.build import build
from perfkit.report.model import BarChart, Note, PlotChart, Table
from perfkit.report.overview import would_change
from tests.report.sample import hostile_gpu, io_bound


def tables(analysis: r.Analysis) -> dict[str, list[list[str]]]:
    return {
        block.id: [[cell.text for cell in row] for row in block.rows]
        for section in build(analysis).sections
        for block in section.blocks
        if isinstance(block, Table)
    }


def notes(analysis: r.Analysis, section: str) -> list[str]:
    found = next(s for s in build(analysis).sections if s.id == section)
    return [block.text for block in found.blocks if isinstance(block, Note)]


def test_memory_tells_peak_and_growth_of_every_rank() -> None:
    rows = tables(hostile_gpu())["memory-table"]
    peaks = ["6 GiB", "12 GiB", "not recorded", "outside the steps"]
    assert rows[0] == ["rank 0", "cuda:0", *peaks, "0 B"]
    assert rows[7][2:] == ["13 GiB", "12 GiB", "2", "step 12", "1 MiB"]
    chart = next(
        b
        for s in build(hostile_gpu(16)).sections
        for b in s.blocks
        if isinstance(b, PlotChart) and b.id == "memory-chart"
    )
    assert {line.name.split()[1] for line in chart.lines} == {str(rank) for rank in range(8, 16)}
    assert "8 ranks with the highest peaks" in chart.note


def test_a_run_without_allocator_records_has_no_memory_section() -> None:
    assert "memory" not in [section.id for section in build(io_bound()).sections]


def test_a_network_that_could_not_be_fitted_says_why() -> None:
    fitted, refused = tables(hostile_gpu())["networks"]
    assert fitted[3:9] == [
        "11.0 us (9.00 us to 13.0 us)",
        "331 GB/s (325 GB/s to 339 GB/s)",
        "1 MiB to 1 GiB",
        "1.6%",
        "400 us",
        "3.10 ms",
    ]
    assert fitted[9].startswith("The calls run beside compute")
    assert refused[3:9] == ["cannot tell"] * 6
    assert refused[9].startswith("Two calls of one size")


def test_groups_are_totalled_and_sizes_counted() -> None:
    analysis = hostile_gpu()
    rows = {row[0]: row for row in tables(analysis)["groups"]}
    (busy,) = (row for row in rows.values() if row[1] == "8")
    assert busy[4:7] == ["22", "275 MiB", "52.8 ms"]
    chart = next(
        b
        for s in build(analysis).sections
        for b in s.blocks
        if isinstance(b, BarChart) and b.id == "sizes"
    )
    assert [(bar.label, bar.total) for bar in chart.bars] == [("≥ 4 KiB", "11"), ("≥ 16 MiB", "11")]


def test_efficiency_is_shown_factor_by_factor() -> None:
    rows = tables(hostile_gpu())["efficiency-factors"]
    assert [row[:2] for row in rows[:3]] == [
        ["parallel", "36%"],
        ["load balance", "80%"],
        ["orchestration", "50%"],
    ]
    assert rows[-1][:2] == ["of communication: transfer", "cannot tell"]


def test_a_second_opinion_that_differs_is_a_warning() -> None:
    assert notes(hostile_gpu(), "efficiency")[0].startswith(
        "Second opinion: host rules the critical path, while another family leads"
    )
    assert tables(hostile_gpu())["critical-path"][:2] == [
        ["Python and launch", "70%"],
        ["Python code", "20%"],
    ]


def test_a_verdict_mixed_by_the_second_opinion_says_what_would_change_it() -> None:
    analysis = hostile_gpu()
    verdict = msgspec.structs.replace(analysis.verdict, label="mixed", reason="second_opinion")
    shown = would_change(msgspec.structs.replace(analysis, verdict=verdict))
    assert shown.endswith("leads both by exposed time and on the critical path.")


def test_a_second_opinion_that_was_refused_says_why() -> None:
    refused = msgspec.structs.replace(
        hostile_gpu(), second_opinion=SecondOpinion(refused="one step only"), efficiency=None
    )
    assert notes(refused, "efficiency") == ["No critical path: one step only"]


def test_what_is_worth_trying_names_the_recipes_that_make_it_real() -> None:
    found = WhatIf(
        worth_trying=(
            Prospect(
                changes=("network x2", "amp bf16"),
                options=("--network x2", "--amp bf16"),
                predicted_ms=50.0,
                low_ms=45.0,
                high_ms=55.0,
                speed_up=2.0,
                next_bottleneck="compute",
                recipes=("amp-bf16",),
            ),
        ),
    )
    rows = tables(msgspec.structs.replace(io_bound(), what_if=found))["worth-trying"]
    assert rows[0][-2:] == [
        "`perfkit whatif RUN --network x2 --amp bf16`",
        "`perfkit recipes amp-bf16`",
    ]

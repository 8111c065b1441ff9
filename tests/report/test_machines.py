"""Telemetry on the page: who used the processors, which GPU was slowed and when."""

from msgspec.structs import replace

from perfkit.report.build import build
from perfkit.report.html import write
from perfkit.report.machines_section import machines_section
from perfkit.report.model import Note, PlotChart, Section, Table
from tests.report.machine_parts import machines
from tests.report.sample import hostile_gpu, io_bound


def shown(section: Section | None) -> dict[str, PlotChart | Table | Note]:
    assert section is not None
    return {
        getattr(b, "id", "note"): b
        for b in section.blocks
        if isinstance(b, PlotChart | Table | Note)
    }


def table(block: object) -> list[list[str]]:
    assert isinstance(block, Table)
    return [[cell.text for cell in row] for row in block.rows]


def test_a_slowed_gpu_is_marked_where_it_was_slowed() -> None:
    found = shown(machines_section(hostile_gpu(8)))
    clocks = found["clock-chart"]
    assert isinstance(clocks, PlotChart)
    (marks,) = clocks.dots
    assert [dot.x for dot in marks.dots] == [second + 0.5 for second in range(60, 90)]
    assert all(dot.y == 1110.0 and "GPU 3 slowed" in dot.hover for dot in marks.dots)
    assert clocks.lines[-1].dashed and clocks.lines[-1].points[0] == (0.0, 1980.0)
    rows = table(found["gpus-table"])
    assert rows[3][2:] == [
        *("97%", "70 GiB", "1,965 MHz of 1,980", "655 W of 700", "91 °C", "25%", "10%", "XID 79")
    ]
    assert [row[-1] for row in rows if row is not rows[3]] == ["none seen"] * 7


def test_who_used_the_processors() -> None:
    found = shown(machines_section(hostile_gpu(8)))
    rows = table(found["machines-table"])
    assert rows[0][1:6] == ["64", "14.0", "9.50", "4.50", "0"]
    assert rows[0][6:] == ["200 GiB", "320 MB/s", "not recorded", "1.10 GB/s", "1.20 GB/s"]
    ranks = table(found["processes-table"])
    assert [row[0] for row in ranks] == [f"rank {rank}" for rank in range(8)]
    assert ranks[0][2:] == ["9 GiB", "1.20", "1.0%"]


def test_a_machine_without_gpus_says_so_and_draws_its_load() -> None:
    (node, _) = machines(8)
    bare = replace(io_bound(), telemetry=(replace(node, gpus=()),))
    found = shown(machines_section(bare))
    assert list(found) == ["load-chart", "machines-table", "note", "processes-table"]
    assert isinstance(note := found["note"], Note) and "No GPU answered" in note.text
    load = found["load-chart"]
    assert isinstance(load, PlotChart)
    assert [line.name for line in load.lines] == ["in use", "this run"]


def test_a_run_without_telemetry_has_no_such_section() -> None:
    assert machines_section(replace(io_bound(), telemetry=())) is None
    assert "machines" not in [section.id for section in build(io_bound()).sections]


def test_hostile_machines_stay_text() -> None:
    page = write(build(hostile_gpu(8)), light=True)
    assert 'id="machines"' in page and "<img src=x" not in page

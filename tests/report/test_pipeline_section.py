"""The pipeline on the page: both denominators, measured and by formula."""

from msgspec.structs import replace

from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.report.model import Table
from perfkit.report.pipeline_section import pipeline_section
from tests.report.sample import io_bound


def test_no_pipeline_has_no_section() -> None:
    assert pipeline_section(io_bound()) is None


def test_both_denominators_stand_beside_the_formula() -> None:
    found = PipelineFacts(
        stages=2,
        ranks=(0, 1),
        schedule=None,
        candidates=(),
        micro_batches=4,
        chunks=1,
        exact=True,
        source="names of passes",
        reason="same order",
        bubble_ms=5.0,
        bubble_over_total=0.21,
        bubble_over_ideal=0.27,
        formula_over_total=None,
        formula_over_ideal=0.25,
        sentence="2 stages, <b>GPipe</b>",
    )
    section = pipeline_section(replace(io_bound(), pipeline=found))
    assert section is not None and isinstance(section.blocks[0], Table)
    cells = [[cell.text for cell in row] for row in section.blocks[0].rows]
    assert [row[1:] for row in cells] == [["21%", "cannot tell"], ["27%", "25%"]]

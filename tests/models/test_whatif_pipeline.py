"""Another pipeline schedule, against the formulas worked out by hand."""

import pytest

from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.whatif import Answer, ask, baseline
from perfkit.analyzers.whatif_pipeline import pipeline_of
from perfkit.cli.whatif import pipeline
from perfkit.errors import UsageError
from tests.models.known_runs import gpu_run, gpu_step_ms

STEP_MS = gpu_step_ms()


def facts(**known: object) -> PipelineFacts:
    """Four stages, eight micro-batches, 1F1B; 10 ms of computing, 5 (3.75 + 1.25) of bubble."""
    values: dict[str, object] = {
        "stages": 4, "ranks": (0, 1, 2, 3), "schedule": "1f1b", "candidates": ("1f1b",),
        "micro_batches": 8, "chunks": 1, "exact": True, "source": "names of passes",
        "reason": "same order", "bubble_ms": 5.0, "bubble_over_total": 0.3,
        "bubble_over_ideal": 0.5, "formula_over_total": 0.27, "formula_over_ideal": 0.375,
        "sentence": "",
    }  # fmt: skip
    return PipelineFacts(**{**values, **known})  # type: ignore[arg-type]


def answer(of: PipelineFacts | None, **change: object) -> Answer | Refusal:
    graph = build_graph(*gpu_run())
    assert isinstance(graph, StepGraph)
    return ask(baseline(graph, None), [pipeline_of(of, **change)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "bubble_ms"),
    [
        ({"micro_batches": 16}, 10 * 3 / 16 + 1.25),
        ({"micro_batches": 4}, 10 * 3 / 4 + 1.25),
        ({"schedule": "gpipe"}, 5.0),  # the same bubble; only memory differs
        ({"schedule": "interleaved", "chunks": 2}, 10 * 3 / 8 / 2 + 1.25),
        ({"schedule": "naive"}, 10 * 3.0 + 1.25),
        ({"schedule": "interleaved", "chunks": 4, "micro_batches": 16}, 10 * 3 / 64 + 1.25),
    ],
)
def test_only_the_schedules_part_of_the_bubble_changes(
    change: dict[str, object], bubble_ms: float
) -> None:
    found = answer(facts(), **change)
    assert isinstance(found, Answer)
    assert found.predicted_ms == pytest.approx(STEP_MS + bubble_ms - 5.0, abs=1e-3)
    assert found.recipes == ("pipeline-schedule",)


@pytest.mark.parametrize(
    ("of", "change", "why"),
    [
        (None, {"micro_batches": 2}, "no pipeline"),
        (facts(schedule=None), {"micro_batches": 2}, "not known"),
        (facts(bubble_ms=None, bubble_over_ideal=None), {"micro_batches": 2}, "unmatched"),
        (facts(), {"schedule": "interleaved", "chunks": 2, "micro_batches": 6}, "multiples"),
    ],
)
def test_what_is_not_known_is_refused(
    of: PipelineFacts | None, change: dict[str, object], why: str
) -> None:
    found = answer(of, **change)
    assert isinstance(found, Refusal) and why in found.reason


def test_a_zero_bubble_schedule_says_why_not(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="gradients of weights"):
        pipeline(tmp_path, "zb-h1", None)


def test_an_unknown_schedule_is_wrong_usage(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="name one of"):
        pipeline(tmp_path, "magic", None)

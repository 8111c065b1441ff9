"""Real two-rank runs without a fault: nobody is blamed, and what is counted is counted right."""

import statistics

import pytest

from perfkit.analyzers.result import Analysis
from tests.truth.harness import Ended, run_quietly

pytestmark = pytest.mark.real

LAYERS, WIDTH, BATCH = 12, 128, 4


@pytest.fixture(scope="module")
def many_buckets(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Twelve layers of 64 KiB, each in a bucket of its own; 36 ms of even compute."""
    flags = (f"--layers={LAYERS}", f"--width={WIDTH}", f"--batch-size={BATCH}")
    folder = tmp_path_factory.mktemp("even")
    return run_quietly(folder, *flags, "--bucket-mb=0.06", "--accelerator-ms=36", "--steps=40")


@pytest.fixture(scope="module")
def analysis(many_buckets: Ended) -> Analysis:
    """What perfkit makes of it."""
    return many_buckets.analyze()


def slowest_ms(ended: Ended) -> dict[int, float]:
    """Each step on its slowest rank, by the ranks' own clocks."""
    pairs = zip(ended.truth[0], ended.truth[1], strict=True)
    return {a.step: max(a.step_ms, b.step_ms) for a, b in pairs}


def test_nobody_is_blamed(many_buckets: Ended, analysis: Analysis) -> None:
    assert analysis.verdict.label == "compute", analysis.verdict.sentence
    assert analysis.stragglers == ()
    step_ms = analysis.budget.per_rank[0].window_ms
    assert max((b.ms for b in analysis.verdict.blame), default=0) < 0.05 * step_ms
    assert not [f for f in analysis.findings if f.severity == "high"]
    own = slowest_ms(many_buckets)  # another program may hold up a step: then it was slow
    held_up = {step for step, ms in own.items() if ms > 1.3 * statistics.median(own.values())}
    assert {slow.step for slow in analysis.steps.slow} <= held_up
    assert analysis.steps.periodic == ()


def test_every_gradient_byte_is_counted_once(analysis: Analysis) -> None:
    rows = analysis.collectives
    assert {row.name for row in rows} == {"all_reduce"}
    assert sum(row.count for row in rows) == LAYERS
    per_step = sum((row.bytes or 0) * row.count for row in rows)
    assert per_step == LAYERS * WIDTH * WIDTH * 4
    assert all(row.matched_by == "sequence" for row in rows)


def test_throughput_is_samples_over_the_median_step(
    many_buckets: Ended, analysis: Analysis
) -> None:
    own = slowest_ms(many_buckets)
    median_ms = statistics.median(ms for step, ms in own.items() if step > 21)  # after the window
    assert analysis.steps.median_ms == pytest.approx(median_ms, rel=0.05)
    expected = 2 * BATCH / (median_ms / 1e3)
    assert analysis.throughput.samples_per_s == pytest.approx(expected, rel=0.05)


def test_two_analyses_are_byte_identical(many_buckets: Ended, analysis: Analysis) -> None:
    first = (many_buckets.run / "analysis.json").read_bytes()
    (many_buckets.run / "analysis.json").unlink()
    assert many_buckets.analyze() == analysis
    assert (many_buckets.run / "analysis.json").read_bytes() == first

"""The whole run from step lines alone."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.steady import Steady, steady_state
from perfkit.analyzers.step_table import steady_steps, tabulate_steps
from perfkit.analyzers.steps import WholeRun, view_run
from perfkit.trace.model import StepLines
from tests.builders import step_lines

NOTHING = np.empty(0)


def view(
    *lines: StepLines, analysed: tuple[int, ...] = (), trace_ms: tuple[float, ...] = ()
) -> WholeRun:
    by_rank = dict(enumerate(lines))
    return view_run(by_rank, tuple(by_rank), np.array(analysed, dtype=np.int64), np.array(trace_ms))


def test_medians_leave_out_step_0_evaluations_and_the_profiler() -> None:
    ms = [900.0] + [100.0] * 39
    ms[10:15] = [150.0] * 5
    ms[20] = 400.0
    whole = view(
        step_lines(ms, profiled=range(10, 15), eval_steps=[20]), analysed=tuple(range(10, 15))
    )
    assert whole.steps.median_ms == 100.0
    assert whole.steps.p99_ms == 100.0
    assert whole.steps.profiled_median_ms == 150.0
    assert whole.dilation == pytest.approx(0.5)
    assert (whole.steps.recorded, whole.steps.analysed) == (40, 5)
    assert whole.steps.eval_steps == 1
    assert whole.steps.eval_ms == pytest.approx(300.0)


def test_the_slowest_rank_makes_the_step() -> None:
    whole = view(step_lines([100.0] * 30), step_lines([120.0] * 30))
    assert whole.steps.median_ms == 120.0
    assert whole.steps.per_rank_median_ms == (100.0, 120.0)
    assert {p.rank for p in whole.steps.series} == {1}


def test_device_times_stand_beside_the_hosts() -> None:
    """Over the same steps; a rank without them has none, and a run without them says nothing."""
    ms = [900.0] + [100.0] * 29
    device_ns = np.array([-1, 500_000_000] + [90_000_000] * 27 + [-1])
    whole = view(replace(step_lines(ms), device_ns=device_ns), step_lines(ms))
    assert whole.steps.per_rank_device_median_ms == (90.0, None)
    assert whole.steps.per_rank_median_ms == (100.0, 100.0)
    assert view(step_lines(ms)).steps.per_rank_device_median_ms == ()


def test_a_warm_up_is_left_out() -> None:
    ms = [3000.0, 800.0, 600.0, 300.0] + [100.0 + (k % 3) for k in range(60)]
    whole = view(step_lines(ms))
    assert whole.settled
    assert whole.steps.p99_ms is not None and whole.steps.p99_ms <= 102.0


def test_a_pace_that_never_settles_is_said_so() -> None:
    whole = view(step_lines([100.0 * 1.08 ** (k // 5) for k in range(80)]))
    assert not whole.settled
    assert whole.steps.drift_percent is not None and whole.steps.drift_percent > 50


@pytest.mark.parametrize("cause", ["checkpoint", "input_wait", "gc", "compile", "unknown"])
def test_a_slow_step_gets_its_recorded_cause(cause: str) -> None:
    ms, waits = [100.0] * 40, [2.0] * 40
    ms[25] = 300.0
    if cause == "input_wait":
        waits[25] = 200.0
    lines = step_lines(
        ms,
        input_ms=waits,
        checkpoint_ms={25: 190.0} if cause == "checkpoint" else {},
        gc=[(25, 2600.0, 195.0)] if cause == "gc" else (),
        compiled=[(25, 2600.0, 195.0)] if cause == "compile" else (),
    )
    (slow,) = view(lines).steps.slow
    assert (slow.step, slow.rank, slow.cause) == (25, 0, cause)
    assert slow.ms == 300.0
    assert slow.over_median == pytest.approx(3.0)


def test_checkpoints_every_ten_steps_are_a_period() -> None:
    saved = dict.fromkeys(range(10, 60, 10), 40.0)
    ms = [140.0 if k in saved else 100.0 for k in range(60)]
    (period,) = view(step_lines(ms, checkpoint_ms=saved)).steps.periodic
    assert (period.every, period.cause, period.count) == (10, "checkpoint", 5)
    assert period.extra_ms == pytest.approx(40.0)


def test_evaluations_every_twenty_steps_are_a_period() -> None:
    evals = list(range(20, 101, 20))
    ms = [500.0 if k in evals else 100.0 for k in range(110)]
    (period,) = view(step_lines(ms, eval_steps=evals)).steps.periodic
    assert (period.every, period.cause) == (20, "eval")


def test_irregular_slow_steps_are_no_period() -> None:
    ms = [100.0] * 60
    for k in (11, 17, 40, 55):
        ms[k] = 300.0
    whole = view(step_lines(ms))
    assert len(whole.steps.slow) == 4
    assert whole.steps.periodic == ()


def test_a_steady_run_has_no_slow_steps_and_no_drift() -> None:
    rng = np.random.default_rng(5)
    whole = view(step_lines([float(m) for m in rng.normal(100, 3, 200)]))
    assert whole.steps.slow == () and whole.steps.periodic == ()
    assert whole.steps.drift_percent == pytest.approx(0.0, abs=2.0)
    assert whole.settled


def test_shares_are_of_all_ranks_time() -> None:
    whole = view(
        step_lines([100.0] * 30, input_ms=40.0),
        step_lines([100.0] * 30, checkpoint_ms=dict.fromkeys(range(30), 10.0)),
    )
    assert whole.steps.input_wait_share == pytest.approx(0.2)
    assert whole.steps.checkpoint_share == pytest.approx(0.05)
    assert whole.io_shares == (whole.steps.input_wait_share, whole.steps.checkpoint_share)


def test_throughput_is_of_the_whole_job() -> None:
    whole = view(step_lines([100.0] * 20, samples=8), step_lines([200.0] * 20, samples=8))
    assert whole.throughput.samples_per_s == pytest.approx(16 / 0.2)
    assert whole.throughput.tokens_per_s is None
    partial = view(step_lines([100.0] * 20, samples=8), step_lines([200.0] * 20))
    assert partial.throughput.samples_per_s is None


def test_a_window_without_the_checkpoints_of_the_run_is_not_representative() -> None:
    saved = dict.fromkeys(range(20, 100, 2), 60.0)
    ms = [160.0 if k in saved else 100.0 for k in range(100)]
    lines = step_lines(ms, checkpoint_ms=saved, profiled=range(8, 16))
    assert view(lines, analysed=tuple(range(8, 16))).not_representative == ("checkpoint",)


def test_a_window_faster_than_the_run_is_not_representative() -> None:
    ms = [50.0 if 8 <= k < 16 else 100.0 for k in range(60)]
    lines = step_lines(ms, profiled=range(8, 16))
    assert view(lines, analysed=tuple(range(8, 16))).not_representative == ("median",)


def test_a_slower_window_is_the_profilers_doing() -> None:
    ms = [150.0 if 8 <= k < 16 else 100.0 for k in range(60)]
    lines = step_lines(ms, profiled=range(8, 16), input_ms=5.0)
    whole = view(lines, analysed=tuple(range(8, 16)))
    assert whole.not_representative == ()
    assert whole.dilation == pytest.approx(0.5)


def test_without_step_lines_the_trace_gives_the_profiled_median() -> None:
    whole = view(analysed=(3, 4, 5), trace_ms=(10.0, 30.0, 20.0))
    assert whole.steps.median_ms is None
    assert whole.steps.profiled_median_ms == 20.0
    assert whole.dilation is None
    assert whole.io_shares is None


def test_a_long_run_keeps_its_slowest_points() -> None:
    ms = [100.0] * 50_000
    ms[31_234] = 900.0
    whole = view(step_lines(ms))
    assert len(whole.steps.series) == 2000
    assert max(p.ms for p in whole.steps.series) == 900.0


def test_ranks_that_stopped_early_do_not_break_the_table() -> None:
    whole = view(step_lines([100.0] * 30), step_lines([110.0] * 12))
    assert whole.steps.recorded == 30
    assert whole.steps.per_rank_median_ms == (100.0, 110.0)


def test_there_is_one_answer_to_where_the_warm_up_ends() -> None:
    """The whole-run view starts where `steady_state` says, and a quiet run settles at once."""
    ms = [400.0, 300.0, 250.0, *([200.0] * 12), *([100.0] * 60)]
    table = tabulate_steps({0: step_lines(ms)})
    found, answer = steady_steps(table), steady_state(ms[1:])  # step 0 is never analysed
    assert isinstance(answer, Steady)
    assert found.first == answer.first + 1
    assert table.slowest_ms[found.mask].max() == 100.0

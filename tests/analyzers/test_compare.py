"""What changed between runs: intervals over runs, a gate that knows noise, tables that add up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as with_
from scipy import stats

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.compare import compare
from perfkit.analyzers.comparison import Comparison
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.run_spread import Replicates
from perfkit.analyzers.two_arms import Difference, difference
from tests.analyzers.test_slow_loader import cpu_rank
from tests.builders import run_of, step_lines


def run_at(ms: float, run_id: str = "run", *, slow: bool = False, samples: int = 64) -> Analysis:
    """Two ranks, 12 traced steps of 100 ms, 40 unprofiled steps of the given time."""
    lines = {r: step_lines([ms] * 40, samples=samples) for r in (0, 1)}
    ranks = [cpu_rank(0, slow=False), cpu_rank(1, slow=slow)]
    run, load = run_of(*ranks, lines=lines, run_id=run_id)
    return analyze(run, load)


def compared(base: Sequence[float], new: Sequence[float], **options: Any) -> Comparison:
    found = compare([run_at(ms) for ms in base], [run_at(ms) for ms in new], **options)
    assert isinstance(found, Comparison)
    return found


def test_one_run_a_side_cannot_tell() -> None:
    found = compared([100.0], [150.0], max_slowdown=0.03)
    assert (found.verdict, found.reason) == ("cannot_tell", "one run each")
    assert found.gate is not None
    assert (found.gate.outcome, found.gate.lower_limit) == ("cannot_tell", None)
    assert found.speed[0].ratio == pytest.approx(1.5)
    assert all(row.changed is None for row in found.classes)


def test_a_known_spread_decides_between_single_runs() -> None:
    found = compared([100.0], [110.0], max_slowdown=0.03, single_run_sd=0.02)
    assert found.gate is not None and found.gate.lower_limit is not None
    lower = 1.1 / np.exp(1.959964 * np.sqrt(2) * np.log(1.02))
    assert found.gate.lower_limit == pytest.approx(lower - 1, rel=1e-6)
    assert found.gate.measure in {speed.measure for speed in found.speed}
    assert (found.verdict, found.gate.outcome) == ("slower", "failed")
    noisy = compared([100.0], [110.0], max_slowdown=0.03, single_run_sd=0.10)
    assert noisy.gate is not None
    assert (noisy.verdict, noisy.gate.outcome) == ("no_difference_shown", "passed")


def test_the_interval_is_the_wider_t_interval_over_runs() -> None:
    base, new = [100.0, 102.0, 98.0], [110.0, 113.0, 108.0]
    found = compared(base, new, max_slowdown=0.03)
    theirs = stats.ttest_ind(np.log(new), np.log(base), equal_var=False).confidence_interval(0.95)
    speed = found.speed[0]
    assert (speed.low, speed.high) == pytest.approx((np.exp(theirs.low), np.exp(theirs.high)))
    assert (found.verdict, found.gate and found.gate.outcome) == ("slower", "failed")


def test_the_spread_of_one_side_stands_for_a_single_run_of_the_other() -> None:
    base, new = [1.0, 1.2, 0.9], [1.5]
    theirs = stats.ttest_ind(new, base, equal_var=True).confidence_interval(0.95)
    found = difference(base, new)
    assert isinstance(found, Difference)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 5), (1, 4)])
def test_equal_runs_fail_the_gate_no_more_often_than_promised(first: int, second: int) -> None:
    """Identical code: the lower 95 % limit exceeds no slow-down in 2.5 % of comparisons."""
    generator = np.random.default_rng(first * 10 + second)
    wrong, trials = 0, 4000
    for _ in range(trials):
        draws = generator.normal(4.6, 0.05, first + second)
        found = difference(draws[:first].tolist(), draws[first:].tolist())
        assert isinstance(found, Difference)
        wrong += found.low > 0
    assert wrong / trials < 0.025 + 3 * np.sqrt(0.025 * 0.975 / trials)


def test_rare_slow_steps_show_in_the_mean() -> None:
    """A checkpoint every tenth step leaves the median as it is, and still fails the gate."""

    def run(extra: float, shift: float) -> Analysis:
        ms = [100.0 + shift + (extra if k % 10 == 5 else 0.0) for k in range(60)]
        run, load = run_of(cpu_rank(0, slow=False), lines={0: step_lines(ms)})
        return analyze(run, load)

    found = compare(
        [run(0, s) for s in (0.0, 0.5, 1.0)],
        [run(300, s) for s in (0.0, 0.5, 1.0)],
        max_slowdown=0.03,
    )
    assert isinstance(found, Comparison) and found.gate is not None
    median, mean = found.speed
    assert median.ratio == pytest.approx(1.0) and mean.ratio == pytest.approx(1.3, abs=0.05)
    assert (found.verdict, found.gate.outcome) == ("slower", "failed")
    assert "mean step changed by +" in found.sentence


def test_a_change_is_charged_to_its_class_and_rank() -> None:
    base = [run_at(100.0 + n) for n in range(3)]
    new = [run_at(160.0 + n, slow=True) for n in range(3)]
    found = compare(base, new)
    assert isinstance(found, Comparison)
    first = {row.name: row for row in found.classes}
    assert first["input_wait"].change_ms == pytest.approx(34.5)  # 69 ms on one rank of two
    assert first["comm_wait"].change_ms == pytest.approx(34.5)
    assert first["comm_transfer"].change_ms == pytest.approx(-69.0)
    assert first["compute"].change_ms == pytest.approx(0.0)
    assert sum(r.change_ms or 0.0 for r in found.classes) == pytest.approx(0.0)
    assert [r.name for r in found.ranks] == ["0", "1"]
    assert {r.mostly for r in found.ranks} <= {"comm_wait", "comm_transfer", "input_wait"}
    assert [r.mostly_ms for r in found.ranks] == pytest.approx([-69.0, -69.0])
    assert "slow_loader" in found.findings_new
    assert found.classes[0].name in found.sentence.replace(" ", "_")


def test_a_side_without_a_traced_step_lists_no_classes() -> None:
    """A run with --analyze never has no budget; zeros would read as changes of every class."""
    base = run_at(100.0)
    untraced = with_(base, steps=with_(base.steps, analysed=0))
    found = compare([untraced], [base])
    assert isinstance(found, Comparison) and found.classes
    assert {(row.base_ms, row.change_ms) for row in found.classes} == {(None, None)}
    assert found.speed[0].ratio == pytest.approx(1.0)


def test_classes_within_noise_are_not_called_changed() -> None:
    generator = np.random.default_rng(1)

    def run(n: int) -> Analysis:
        found, noise = run_at(100.0 + n), generator.normal(1.0, 0.1)
        recorded = {k: t for k, t in found.budget.classes.items() if t is not None}
        classes = {k: with_(t, ms=t.ms * noise) for k, t in recorded.items()}
        return with_(found, budget=with_(found.budget, classes=classes))

    found = compare([run(n) for n in range(4)], [run(n) for n in range(4)])
    assert isinstance(found, Comparison)
    assert {row.changed for row in found.classes} <= {False, None}


def test_other_work_and_other_machines_are_noted() -> None:
    base, new = [run_at(100.0), run_at(101.0)], [run_at(180.0, samples=128) for _ in range(2)]
    found = compare(base, new)
    assert isinstance(found, Comparison)
    assert any("128 samples" in note or "samples against 256" in note for note in found.notes)
    elsewhere = [with_(a, world=with_(a.world, size=4)) for a in base]
    other = compare(base, elsewhere)
    assert isinstance(other, Comparison)
    assert any("the world size differs: 2 against 4" in note for note in other.notes)
    assert other.ranks == ()
    named = with_(base[0], run=with_(base[0].run, torch="2.13.0"))
    unnamed = compare([named], [with_(named, run=with_(named.run, torch=""))])
    assert isinstance(unnamed, Comparison)
    assert "torch differs: 2.13.0 against not recorded" in unnamed.notes


def test_profiled_steps_stand_in_where_no_other_was_recorded() -> None:
    run, load = run_of(cpu_rank(0, slow=False))
    found = compare([analyze(run, load)], [analyze(run, load)])
    assert isinstance(found, Comparison)
    assert [s.measure for s in found.speed] == ["median profiled step"]
    assert any("profiled steps are compared" in note for note in found.notes)


def test_a_run_without_steps_is_refused() -> None:
    whole = run_at(100.0)
    steps = with_(whole.steps, median_ms=None, mean_ms=None, profiled_median_ms=None)
    found = compare([whole], [with_(whole, steps=steps)])
    assert isinstance(found, Refusal)
    assert found.reason == "not every run has a step time"


def test_calibration_is_held_to_what_few_runs_can_say() -> None:
    """Three replicates know their spread with two degrees of freedom: t(2), not the normal."""
    made = [with_(run_at(ms, str(ms)).run, command="train") for ms in (1.0, 2.0)]
    base, new = (with_(run_at(ms), run=r) for ms, r in zip((100.0, 104.0), made, strict=True))
    kept = Replicates(
        program="train", ranks=2, hosts=base.run.hosts, runs=("x", "y", "z"),
        step_ms=(99.0, 100.0, 101.0),
    )  # fmt: skip
    found = compare([base], [new], calibrated=[kept])
    assert isinstance(found, Comparison)
    sd = float(np.log([99.0, 100.0, 101.0]).std(ddof=1))
    half = stats.t.ppf(0.975, 2) * np.sqrt(2) * sd
    assert found.speed[0].low == pytest.approx(1.04 / np.exp(half))
    other = compare([base], [new], calibrated=[with_(kept, ranks=4)])
    assert isinstance(other, Comparison) and other.verdict == "cannot_tell"

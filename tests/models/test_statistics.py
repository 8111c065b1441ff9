"""Statistics: golden values of the literature, calibration by simulation, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analyzers import statistics as s
from perfkit.analyzers.bootstrap import (
    block_bootstrap,
    block_indices,
    block_length,
    hierarchical_ratio,
    run_level,
)
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replication import nested, repetitions
from perfkit.analyzers.steady import Steady, steady_state


def compare(a: list[float], b: list[float]) -> s.PairedRatio:
    result = s.paired_t(a, b)
    assert isinstance(result, s.PairedRatio)
    return result


def test_sample_sizes() -> None:
    assert s.runs_per_arm(0.02, 0.01) == pytest.approx(62.791, rel=1e-4)
    assert s.detectable_difference(0.02, 10) == pytest.approx(0.0250581, rel=1e-4)


@pytest.mark.parametrize(
    ("epochs", "mean", "sd", "least", "gain"),
    [
        ([16, 14, 16, 17, 16, 16, 15, 16, 15, 16], 15.75, 0.433013, 15.2126, 0.0353245),
        ([20, 21, 21, 20, 22, 22, 21, 21, 20, 20], 20.75, 0.661438, 19.9291, 0.0411889),
    ],
)
def test_mlperf_reference_convergence_points(
    epochs: list[float], mean: float, sd: float, least: float, gain: float
) -> None:
    reference = s.olympic_mean(epochs)
    assert (reference.mean, reference.sd) == pytest.approx((mean, sd), rel=1e-5)
    bound = s.least_allowed_mean(reference, len(epochs))
    assert bound == pytest.approx(least, rel=1e-4)
    assert reference.mean / bound - 1 == pytest.approx(gain, rel=1e-3)


def test_kalibera_jones_three_levels() -> None:
    data = np.array([[[9, 5], [8, 3]], [[10, 6], [7, 11]], [[1, 12], [2, 4]]], float)
    result = nested(data)
    assert result.mean == 6.5
    assert result.observed == pytest.approx((16.5, 2.58333, 3.5625), rel=1e-5)
    assert result.unbiased == pytest.approx((16.5, -5.66667, 2.27083), rel=1e-5)
    assert result.half_width == pytest.approx(4.68871, rel=1e-5)


def test_kalibera_jones_repetitions() -> None:
    data = np.array([[[3, 4, 3], [1.2, 3.1, 3]], [[0.2, 1, 1.5], [1, 2, 3]]])
    result = nested(data)
    assert result.unbiased == pytest.approx((0.726667, 0.262778, 0.774722), rel=1e-5)
    assert repetitions(result.unbiased, (3, 20, 100)) == (5, 2)
    with pytest.raises(ValueError, match="no variance of its own"):
        repetitions((16.5, -5.7, 2.3), (3, 20, 100))
    with pytest.raises(ValueError, match="two repetitions"):
        nested(np.ones((1, 3)))


def test_a_paired_comparison() -> None:
    result = compare([110, 105, 108, 112], [100, 100, 100, 100])
    assert result.ratio == pytest.approx((1.10 * 1.05 * 1.08 * 1.12) ** 0.25)
    assert result.low < result.ratio < result.high and result.same_direction == 4
    swapped = compare([100, 100, 100, 100], [110, 105, 108, 112])
    assert swapped.ratio == pytest.approx(1 / result.ratio)
    assert (swapped.low, swapped.high) == pytest.approx((1 / result.high, 1 / result.low))
    assert isinstance(s.paired_t([1.0], [2.0]), Refusal)
    assert compare([2.0, 2.0], [1.0, 1.0]).p_value == 0
    with pytest.raises(ValueError, match="same number"):
        s.paired_t([1, 2], [1])
    with pytest.raises(ValueError, match="positive"):
        s.paired_t([1, 0], [1, 1])


def test_the_paired_t_keeps_its_word_on_identical_code() -> None:
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(1000):
        arms = np.exp(generator.normal(0, 0.05, size=(2, 5)))
        result = compare(list(arms[0]), list(arms[1]))
        wrong += not result.low <= 1 <= result.high
    found = s.wilson(wrong, 1000)
    assert isinstance(found, s.Proportion) and found.low <= 0.05 <= found.high


def test_pairs_needed_inverts_the_detectable_effect() -> None:
    pairs = s.pairs_needed(0.02, ratio=1.03)
    assert pairs is not None
    assert s.minimum_detectable_effect(0.02, pairs) <= math.log(1.03)
    assert s.minimum_detectable_effect(0.02, pairs - 1) > math.log(1.03) or pairs == 5
    assert s.pairs_needed(0.5, ratio=1.03) is None


def test_wilson_intervals() -> None:
    half = s.wilson(50, 100)
    assert isinstance(half, s.Proportion)
    assert (half.low, half.high) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    none = s.wilson(0, 20)
    assert isinstance(none, s.Proportion)
    assert (none.low, none.high) == pytest.approx((0, 0.16113), abs=1e-5)
    assert isinstance(s.wilson(0, 0), Refusal)
    with pytest.raises(ValueError, match="3 successes of 2"):
        s.wilson(3, 2)


@given(st.integers(1, 500), st.data())
def test_wilson_contains_its_share(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    result = s.wilson(hits, trials)
    assert isinstance(result, s.Proportion)
    assert 0 <= result.low <= result.share <= result.high <= 1


def test_holm() -> None:
    adjusted = s.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_order(p_values: dict[str, float]) -> None:
    adjusted = s.holm(p_values)
    assert all(p_values[k] <= adjusted[k] <= 1 for k in p_values)
    ordered = sorted(p_values, key=p_values.__getitem__)
    assert [adjusted[k] for k in ordered] == sorted(adjusted.values())


def test_geometric_mean() -> None:
    assert s.geometric_mean([0.5, 2.0]) == pytest.approx(1)


@given(st.integers(1, 2000))
def test_blocks_are_runs_of_consecutive_steps(steps: int) -> None:
    picks = block_indices(np.random.default_rng(0), steps, 3)
    assert picks.shape == (3, steps)
    assert picks.min() >= 0 and picks.max() < steps
    length = block_length(steps)
    assert (length - 1) ** 3 < steps <= length**3
    block = picks[0, :length]
    assert np.array_equal(np.diff(block), np.ones(len(block) - 1))


def test_bootstrap_intervals_hold_the_point_and_repeat() -> None:
    series = np.random.default_rng(1).normal(100, 5, 200)
    first = block_bootstrap(series, lambda a: float(np.mean(a)), seed=4)
    assert first.low < first.point < first.high
    assert first == block_bootstrap(series, lambda a: float(np.mean(a)), seed=4)
    runs = run_level([1.0, 2.0, 3.0], lambda a: float(np.mean(a)), seed=1)
    assert runs.low <= 2 == runs.point <= runs.high


def test_correlated_steps_widen_the_interval() -> None:
    generator = np.random.default_rng(5)
    noise = generator.normal(0, 1, 1000)
    walk = np.zeros(1000)
    for i in range(1, 1000):
        walk[i] = 0.9 * walk[i - 1] + noise[i]
    shuffled = generator.permutation(walk)

    def width(values: np.ndarray) -> float:
        found = block_bootstrap(values, lambda a: float(np.mean(a)), seed=2)
        return found.high - found.low

    assert width(walk) > 1.5 * width(shuffled)


def test_the_hierarchical_ratio() -> None:
    generator = np.random.default_rng(9)
    base = [list(generator.normal(100, 2, 30)) for _ in range(12)]
    fast = [list(generator.normal(80, 2, 30)) for _ in range(12)]
    result = hierarchical_ratio(base, fast, seed=1, draws=500)
    assert result.point == pytest.approx(0.8, rel=0.01)
    assert result.low < result.point < result.high < 1
    assert result == hierarchical_ratio(base, fast, seed=1, draws=500)


def test_warm_up_ends_where_the_level_begins() -> None:
    times = [400.0, 300.0, 200.0] + [100.0] * 60
    found = steady_state(times)
    assert isinstance(found, Steady) and found.level == 100
    assert found.first <= 3
    assert isinstance(steady_state(times, at_least=5), Steady)


def test_a_run_that_never_settles_is_refused() -> None:
    rising = [100 * 1.01**i for i in range(80)]
    assert isinstance(steady_state(rising), Refusal)
    assert isinstance(steady_state([100.0] * 19), Refusal)
    drifting = [100 * 1.0015**i for i in range(400)]
    found = steady_state(drifting)
    assert isinstance(found, Refusal) or found.first > 300

"""The decision rule: its errors on equal arms, and what it finds."""

import numpy as np
import pytest

from perfkit.recipes.statistics import (
    LEAST_PAIRS,
    MOST_PAIRS,
    Outcome,
    is_plain,
    judge,
    noise_of,
    order_of,
)


def arms(ratio: float, sd: float, pairs: int, seed: int) -> tuple[list[float], list[float]]:
    chance = np.random.default_rng(seed)
    base = 100 * np.exp(chance.normal(0, sd, pairs))
    variant = 100 / ratio * np.exp(chance.normal(0, sd, pairs))
    return base.tolist(), variant.tolist()


def decided(ratio: float, sd: float, seed: int) -> Outcome:
    """Decide as a search does: the pilot, a look after each pair, then all pairs."""
    pairs = noise_of(*arms(1.0, sd, 3, seed + 10**6)).pairs
    base, variant = arms(ratio, sd, pairs, seed)
    for looked in range(3, pairs):
        if is_plain(base[:looked], variant[:looked]):
            return judge(base[:looked], variant[:looked]).outcome
    return judge(base, variant).outcome


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.05, 0.10])
def test_equal_arms_are_hardly_ever_called_faster(sd: float) -> None:
    faster = sum(decided(1.0, sd, seed) is Outcome.FASTER for seed in range(300))
    # At most 2.5 % (one side of 95 %) and a little for the looks: 8 of 300, 2.5 sd more.
    assert faster <= 15


def test_large_gains_are_found_and_losses_are_named() -> None:
    assert sum(decided(1.2, 0.02, seed) is Outcome.FASTER for seed in range(200)) > 180
    assert sum(decided(0.8, 0.02, seed) is Outcome.SLOWER for seed in range(200)) > 180


def test_a_small_certain_gain_is_not_worth_it() -> None:
    assert judge([101.0, 101.1, 100.9, 101.0, 101.05], [100.0] * 5).outcome is Outcome.NO_GAIN


def test_noise_decides_how_many_pairs_are_run() -> None:
    quiet = noise_of([100.0, 100.1, 99.9], [100.0, 100.0, 100.1])
    assert (quiet.pairs, quiet.hopeless) == (LEAST_PAIRS, False)
    loud = noise_of([100.0, 180.0, 99.9], [150.0, 100.0, 100.1])
    assert (loud.pairs, loud.hopeless) == (MOST_PAIRS, True)
    assert loud.resolves > quiet.resolves


def test_scattered_pairs_are_too_noisy_or_inconclusive() -> None:
    assert judge([100, 180, 90, 140, 100], [95, 80, 160, 70, 150]).outcome is Outcome.TOO_NOISY
    assert judge([100, 104, 109, 99, 103], [97, 103, 99, 101, 99]).outcome is Outcome.INCONCLUSIVE


def test_the_order_is_balanced_and_the_same_each_time() -> None:
    order = order_of("try-0-overlap", 12)
    assert order == order_of("try-0-overlap", 12)
    assert sum(order) == 6
    assert {order_of(f"try-{n}", 2) for n in range(20)} == {(True, False), (False, True)}


def test_what_is_plain_needs_three_pairs_at_least() -> None:
    assert is_plain([150.0] * 3, [100.0, 100.1, 100.2])
    assert not is_plain([150.0] * 2, [100.0, 100.1])
    assert not is_plain([103.0, 104.0, 110.0], [100.0, 100.0, 100.0])
    assert is_plain([100.0] * 3, [110.0, 110.1, 110.2])

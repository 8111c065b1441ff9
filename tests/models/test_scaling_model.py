"""The physics model finds its truth, the choice prefers the simple, and limits are kept."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.scaling_model import (
    Chosen,
    Network,
    PhysicsModel,
    choose_model,
    expected_skew_s,
    fit_physics,
)
from perfkit.roofline.collective_cost import Link

NETWORK = Network(
    link=Link(alpha_s=10e-6, bandwidth_byte_per_s=25e6),
    message_bytes=(1_000_000, 4_000_000),
    skew_sd_s=2e-3,
)
RANKS = (1, 2, 4)


def curve(serial: float, compute: float, *, weak: bool, ranks: tuple[int, ...]) -> dict[int, float]:
    return {p: serial + compute / (1 if weak else p) + NETWORK.exposed_s(p) for p in ranks}


def fitted(seconds: dict[int, float], *, weak: bool) -> PhysicsModel:
    model = fit_physics(seconds, NETWORK, weak=weak)
    assert isinstance(model, PhysicsModel), model
    return model


@given(st.floats(1e-3, 1.0), st.floats(0.05, 10.0))
def test_three_points_give_the_truth_back(serial: float, compute: float) -> None:
    model = fitted(curve(serial, compute, weak=False, ranks=RANKS), weak=False)
    assert model.serial_s == pytest.approx(serial, rel=1e-6)
    assert model.compute_s == pytest.approx(compute, rel=1e-6)
    truth = curve(serial, compute, weak=False, ranks=(8,))[8]
    assert model.step_s(8) == pytest.approx(truth)


def test_weak_scaling_has_one_unknown() -> None:
    model = fitted(curve(0.1, 0.4, weak=True, ranks=RANKS), weak=True)
    assert model.serial_s == 0
    assert model.compute_s == pytest.approx(0.5)
    assert model.step_s(8) == pytest.approx(0.5 + NETWORK.exposed_s(8))


def test_skew_is_about_the_expected_maximum() -> None:
    generator = np.random.default_rng(1)
    for ranks in (64, 1024):
        largest = generator.normal(0, 1, (2000, ranks)).max(axis=1).mean()
        assert expected_skew_s(1.0, ranks) == pytest.approx(largest, rel=0.25)
        assert expected_skew_s(1.0, ranks) >= largest
    assert expected_skew_s(1.0, 1) == 0


def test_limits() -> None:
    model = fitted(curve(0.1, 0.4, weak=False, ranks=RANKS), weak=False)
    assert isinstance(model.step_s(256), float)
    assert isinstance(model.step_s(257), Refusal)
    refused = fit_physics({1: 1.0, 2: 0.6}, NETWORK, weak=False)
    assert isinstance(refused, Refusal) and "2 points" in refused.reason
    with pytest.raises(ValueError, match="positive"):
        fit_physics({1: 0.0, 2: 1.0, 4: 1.0}, NETWORK, weak=False)


def chosen(seconds: dict[int, float], network: Network | None, *, weak: bool) -> Chosen:
    choice = choose_model(seconds, network, weak=weak)
    assert isinstance(choice, Chosen), choice
    return choice


@pytest.mark.parametrize("weak", [False, True])
def test_physics_is_chosen_on_its_own_curve(weak: bool) -> None:
    seconds = curve(0.05, 1.0, weak=weak, ranks=(1, 2, 4, 8, 16, 32, 64))
    choice = chosen(seconds, NETWORK, weak=weak)
    assert choice.name == "physics"
    assert [c.name for c in choice.candidates] == ["physics", "usl", "growth"]
    assert choice.predict(128) == pytest.approx(
        curve(0.05, 1.0, weak=weak, ranks=(128,))[128], rel=1e-6
    )


def test_a_wrong_network_loses_to_an_empirical_model() -> None:
    seconds = {p: 1.0 + 0.2 * math.log2(p) for p in (1, 2, 4, 8, 16, 32, 64)}
    choice = chosen(seconds, NETWORK, weak=True)
    assert choice.name == "growth"
    assert choice.predict(128) == pytest.approx(2.4)
    assert isinstance(choice.predict(257), Refusal)


def test_usl_is_chosen_where_exchange_grows_with_the_square() -> None:
    seconds = {p: (1 + 0.02 * (p - 1) + 0.001 * p * (p - 1)) / p for p in (1, 2, 4, 8, 16, 32, 64)}
    choice = chosen(seconds, None, weak=False)
    assert choice.name == "usl"
    assert choice.predict(96) == pytest.approx((1 + 0.02 * 95 + 0.001 * 96 * 95) / 96, rel=1e-3)


def test_too_few_points_are_refused_with_every_model_named() -> None:
    refused = choose_model({1: 1.0, 2: 0.5, 4: 0.3}, None, weak=False)
    assert isinstance(refused, Refusal)
    assert "usl" in refused.reason and "growth" in refused.reason
    three = chosen(curve(0.1, 1.0, weak=False, ranks=RANKS), NETWORK, weak=False)
    assert three.name == "physics"
    assert three.candidates[1].refusal is not None

"""Scaling laws, USL and empirical growth: golden values, traps, refusals."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analyzers import scaling_laws as laws
from perfkit.analyzers import usl
from perfkit.analyzers.extrap import GrowthModel, fit_growth
from perfkit.analyzers.refusal import Refusal


@pytest.mark.parametrize(
    ("share", "ranks", "amdahl", "gustafson"),
    [(0.05, 8, 5.925926, 7.65), (0.05, 64, 15.421687, 60.85), (0.1, 8, 4.705882, 7.3)],
)
def test_amdahl_and_gustafson(share: float, ranks: int, amdahl: float, gustafson: float) -> None:
    assert laws.amdahl_speed_up(share, ranks) == pytest.approx(amdahl, rel=1e-6)
    assert laws.gustafson_speed_up(share, ranks) == pytest.approx(gustafson)
    assert laws.gustafson_serial_share(gustafson, ranks) == pytest.approx(share)


@given(st.floats(0, 1), st.integers(2, 4096))
def test_the_two_laws_are_one(serial: float, ranks: int) -> None:
    scaled = laws.gustafson_speed_up(serial, ranks)
    fixed = laws.amdahl_speed_up(laws.amdahl_from_gustafson(serial, ranks), ranks)
    assert scaled == pytest.approx(fixed)


@given(st.floats(0, 1), st.integers(2, 4096))
def test_karp_flatt_inverts_amdahl(serial: float, ranks: int) -> None:
    speed_up = laws.amdahl_speed_up(serial, ranks)
    assert laws.karp_flatt(speed_up, ranks) == pytest.approx(serial, abs=1e-9)


QUINN = [
    (
        [1.82, 2.50, 3.08, 3.57, 4.00, 4.38, 4.71],
        [0.0989, 0.1, 0.0996, 0.1001, 0.1, 0.0997, 0.0998],
    ),
    (
        [1.87, 2.61, 3.23, 3.73, 4.14, 4.46, 4.71],
        [0.0695, 0.0747, 0.0795, 0.0851, 0.0899, 0.0949, 0.0998],
    ),
]


@pytest.mark.parametrize(("speed_ups", "expected"), QUINN)
def test_karp_flatt_tables_of_quinn(speed_ups: list[float], expected: list[float]) -> None:
    seen = [laws.karp_flatt(s, p) for p, s in enumerate(speed_ups, start=2)]
    assert seen == pytest.approx(expected, abs=5e-5)


def test_karp_flatt_published_values() -> None:
    assert laws.karp_flatt(6.496, 8) == pytest.approx(0.0330753, rel=1e-4)
    assert laws.karp_flatt(1.178, 4) == pytest.approx(0.798529, rel=1e-4)
    with pytest.raises(ValueError, match="more than one"):
        laws.karp_flatt(1, 1)


def test_a_ring_all_reduce_imitates_a_serial_fraction() -> None:
    times = {
        p: 0.8 / p + 2 * (p - 1) / p * 1.4e9 / 50e9 + 2 * (p - 1) * 10e-6
        for p in (1, 2, 4, 8, 16, 32, 64)
    }
    expected_ms = [428.02, 242.06, 149.14, 102.8, 79.87, 68.885]
    assert [1e3 * times[p] for p in (2, 4, 8, 16, 32, 64)] == pytest.approx(expected_ms, rel=1e-5)
    points = laws.efficiencies(times, weak=False)
    assert not isinstance(points, Refusal)
    serial = [p.karp_flatt for p in points[1:]]
    assert serial == pytest.approx([0.07, 0.0701, 0.0702, 0.0704, 0.0708, 0.0716], abs=6e-5)
    share = laws.serial_share_fit(times)
    assert share == pytest.approx(0.07, rel=0.01)


def test_efficiencies_of_both_kinds_and_of_a_larger_baseline() -> None:
    strong = laws.efficiencies({2: 10.0, 4: 6.0}, weak=False)
    assert not isinstance(strong, Refusal)
    assert strong[1].speed_up == pytest.approx(10 / 6)
    assert strong[1].efficiency == pytest.approx(10 / 6 / 2)
    assert strong[1].karp_flatt is None
    weak = laws.efficiencies({1: 1.0, 8: 1.25}, weak=True)
    assert not isinstance(weak, Refusal)
    assert (weak[1].speed_up, weak[1].efficiency) == pytest.approx((6.4, 0.8))
    assert isinstance(laws.efficiencies({4: 1.0}, weak=True), Refusal)
    assert isinstance(laws.serial_share_fit({2: 1.0, 4: 0.6, 8: 0.4}), Refusal)
    with pytest.raises(ValueError, match="positive"):
        laws.efficiencies({1: 0.0, 2: 1.0}, weak=False)


RAYTRACER_X = [1.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 48.0, 64.0]
RAYTRACER_Y = [20.0, 78.0, 130.0, 170.0, 190.0, 200.0, 210.0, 230.0, 260.0, 280.0, 310.0]
SPEC_X = [1.0, 18.0, 36.0, 72.0, 108.0, 144.0, 216.0]
SPEC_Y = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]


def fitted(x: list[float], y: list[float], draws: int = 20) -> usl.UslFit:
    fit = usl.fit_usl(x, y, seed=1, draws=draws)
    assert isinstance(fit, usl.UslFit), fit
    return fit


def test_usl_raytracer_first_six() -> None:
    fit = fitted(RAYTRACER_X[:6], RAYTRACER_Y[:6])
    assert fit.alpha == pytest.approx(0.0244440, rel=1e-4)
    assert fit.beta == pytest.approx(0.00162681, rel=1e-4)
    assert fit.gamma == pytest.approx(20.8560, rel=1e-4)
    assert fit.peak_ranks == pytest.approx(24.48825, rel=1e-4)
    assert fit.residual_sd == pytest.approx(1.83411, rel=1e-4)


def test_usl_specsdm91() -> None:
    fit = fitted(SPEC_X, SPEC_Y)
    assert (fit.alpha, fit.beta, fit.gamma) == pytest.approx(
        (0.0277284, 1.04366e-4, 89.9952), rel=1e-4
    )
    assert fit.peak_ranks == pytest.approx(96.5194, rel=1e-4)
    assert fit.optimal_ranks == pytest.approx(36.0641, rel=1e-4)
    assert fit.amdahl_limit == pytest.approx(3245.59, rel=1e-4)
    assert fit.throughput(fit.peak_ranks) > fit.throughput(fit.peak_ranks * 1.2)


def test_usl_at_its_bound_is_amdahl() -> None:
    fit = fitted(RAYTRACER_X, RAYTRACER_Y)
    assert fit.beta == 0 and fit.peak_ranks == math.inf
    assert (fit.alpha, fit.gamma) == pytest.approx((0.0577708, 21.8488), rel=1e-4)
    assert fit.amdahl_limit == pytest.approx(378.199, rel=1e-4)
    assert fit.optimal_ranks == pytest.approx(17.3098, rel=1e-4)
    assert fit.alpha_interval[0] <= fit.alpha <= fit.alpha_interval[1]
    assert fit.beta_interval[0] == 0


def test_usl_peak() -> None:
    assert usl.peak_ranks(0.001, 1e-5) == pytest.approx(316.0696, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 0.3), st.floats(0.0, 0.01), st.floats(0.1, 1000))
def test_usl_finds_the_coefficients_of_an_exact_curve(
    alpha: float, beta: float, gamma: float
) -> None:
    x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    y = [usl.throughput(n, alpha, beta, gamma) for n in x]
    fit = fitted(x, y, draws=1)
    assert [fit.throughput(n) for n in x] == pytest.approx(y, rel=1e-4)


def test_usl_needs_six_points() -> None:
    refused = usl.fit_usl(SPEC_X[:5], SPEC_Y[:5], seed=0)
    assert isinstance(refused, Refusal) and "too few" in refused.reason
    with pytest.raises(ValueError, match="positive"):
        usl.fit_usl(SPEC_X, [0.0, *SPEC_Y[1:]], seed=0)


X = [4.0, 8.0, 16.0, 32.0, 64.0]


def grown(y: list[float], **options: bool) -> GrowthModel:
    model = fit_growth(X, y, **options)
    assert isinstance(model, GrowthModel), model
    return model


@pytest.mark.parametrize(
    ("y", "term", "coefficients"),
    [
        ([5 + 2 * math.log2(p) for p in X], (0, 1), (5, 2)),
        ([10 + 0.5 * p for p in X], (1, 0), (10, 0.5)),
        ([3 + 0.2 * p * math.log2(p) for p in X], (1, 1), (3, 0.2)),
        ([2 * (p - 1) / p for p in X], (-1, 0), (2, -2)),
    ],
)
def test_growth_golden(
    y: list[float], term: tuple[int, int], coefficients: tuple[float, float]
) -> None:
    model = grown(y)
    assert model.exponent == Fraction(term[0]) and model.log_exponent == term[1]
    assert (model.constant, model.coefficient) == pytest.approx(coefficients)
    assert model.smape_percent < 1e-9


def test_without_negative_exponents_a_ring_looks_logarithmic() -> None:
    model = grown([2 * (p - 1) / p for p in X], negative_exponents=False)
    assert model.exponent == Fraction(0) and model.log_exponent == 1
    assert (model.constant, model.coefficient) == pytest.approx((1.35625, 0.1125))
    assert model.smape_percent == pytest.approx(6.21984, rel=1e-4)


def test_growth_does_not_look_further_than_four_times() -> None:
    model = grown([10 + 0.5 * p for p in X])
    assert model.value(256) == pytest.approx(138)
    assert isinstance(model.value(257), Refusal)
    assert model.formula == "10 + 0.5 x^1"
    assert isinstance(fit_growth(X[:4], X[:4]), Refusal)
    with pytest.raises(ValueError, match="at least 1"):
        fit_growth([0.5, *X], [1.0] * 6)


def test_a_constant_stays_constant() -> None:
    model = grown([7.0] * 5)
    assert model.coefficient == 0 and model.formula == "7"
    noisy = grown([7.0, 7.1, 6.9, 7.05, 6.95], refine=True)
    assert noisy.coefficient == 0

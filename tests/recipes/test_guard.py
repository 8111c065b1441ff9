"""The numerics guard against numbers that were moved by a known amount."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.recipes import guard
from perfkit.recipes.recipe import Numerics
from perfkit.trace.numerics import RankNumbers
from tests.recipes.laboratory import numbers

NOTHING = guard.floor_of([numbers(), numbers()])


def moved(**fields: object) -> list[RankNumbers]:
    return [replace(n, **fields) for n in numbers()]  # type: ignore[arg-type]


def test_equal_runs_have_no_distance() -> None:
    found = guard.distance(numbers(), numbers())
    assert (found.first_loss, found.trajectory, found.gradient, found.parameters) == (0, 0, 0, 0)
    assert found.cosine == pytest.approx(1)


def test_distances_are_relative() -> None:
    found = guard.distance(numbers(), numbers(1e-3))
    assert found.first_loss == 0
    assert found.trajectory == pytest.approx(1e-3, rel=0.01)
    assert found.parameters == pytest.approx(1e-3, rel=1e-6)
    assert found.signed == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize(
    ("shift", "allowed", "ok"),
    [
        (1e-9, guard.EXACT, True),
        (2e-5, guard.EXACT, False),
        (5e-4, guard.REORDERED, True),
        (2e-3, guard.REORDERED, False),
        (5e-3, guard.SIXTEEN_BIT, True),
        (5e-2, guard.SIXTEEN_BIT, False),
    ],
)
def test_each_class_has_its_tolerance(shift: float, allowed: guard.Tolerance, ok: bool) -> None:
    found = guard.guard(numbers(), numbers(shift), NOTHING, allowed)
    assert found.ok is ok, found.reason
    assert bool(found.reason) is not ok


def test_what_baselines_differ_by_is_allowed() -> None:
    floor = guard.floor_of([numbers(), numbers(1e-4)])
    assert guard.guard(numbers(), numbers(5e-4), floor, guard.EXACT).ok
    assert not guard.guard(numbers(), numbers(5e-4), NOTHING, guard.EXACT).ok


def test_another_gradient_of_the_first_step_is_seen() -> None:
    other = moved(gradient=np.linspace(1, -1, 64))
    found = guard.guard(numbers(), other, NOTHING, guard.SIXTEEN_BIT)
    assert not found.ok and "direction" in found.reason


@pytest.mark.parametrize("allowed", [guard.EXACT, guard.SIXTEEN_BIT, guard.UNJUDGED])
def test_no_class_may_break_the_numbers(allowed: guard.Tolerance) -> None:
    losses = numbers()[0].losses.copy()
    losses[20] = np.nan
    assert "not finite" in guard.guard(numbers(), moved(losses=losses), NOTHING, allowed).reason
    runaway = numbers()[0].losses * np.where(np.arange(40) > 20, 5.0, 1.0)
    assert "times the baseline" in guard.guard(
        numbers(), moved(losses=runaway), NOTHING, allowed
    ).reason  # fmt: skip
    assert "no longer equal" in guard.guard(
        numbers(), numbers(apart=True), NOTHING, allowed
    ).reason  # fmt: skip
    assert "not all ranks" in guard.guard(numbers(), numbers()[:1], NOTHING, allowed).reason


def test_ranks_that_differ_by_design_are_left_alone() -> None:
    apart = numbers(apart=True)
    assert guard.guard(apart, apart, NOTHING, guard.EXACT).ok


def test_steps_without_a_loss_are_no_nan() -> None:
    losses = numbers()[0].losses.copy()
    losses[::2] = np.nan
    assert guard.guard(moved(losses=losses), moved(losses=losses), NOTHING, guard.EXACT).ok


def test_nothing_seen_is_not_passed() -> None:
    blank = moved(losses=np.empty(0), gradient=np.empty(0), norms={})
    assert not guard.guard(blank, blank, NOTHING, guard.EXACT).ok


def test_an_algorithm_is_not_claimed_to_be_equal() -> None:
    found = guard.guard(numbers(), numbers(0.3), NOTHING, guard.UNJUDGED)
    assert found.ok and "cannot say" in found.reason


def test_tolerances_by_recipe_and_class() -> None:
    assert guard.tolerance_of("overlap", Numerics.EXACT) is guard.EXACT
    assert guard.tolerance_of("bf16-gradients", Numerics.NUMERICS) is guard.COMPRESSED
    assert guard.tolerance_of("amp-bf16", Numerics.NUMERICS) is guard.SIXTEEN_BIT
    assert guard.tolerance_of("powersgd", Numerics.ALGORITHM) is guard.UNJUDGED


def test_recipes_together_may_move_the_numbers_as_the_widest_of_them() -> None:
    both = guard.loosest([guard.REDUCED, guard.COMPRESSED])
    assert (both.first_loss, both.cosine) == (1e-3, 0.9999)
    assert (both.gradient, both.trajectory, both.smoothed) == (1e-2, 0.02, True)
    assert guard.loosest([guard.EXACT]) == guard.EXACT
    assert guard.loosest([guard.EXACT, guard.REORDERED]).parameters is None
    assert guard.loosest([guard.EXACT, guard.UNJUDGED]) is guard.UNJUDGED

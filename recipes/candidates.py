"""Which recipes are worth trying on a run, in which order, and why the others are not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from perfkit.analyzers.calibration import Pair, expected
from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.activation import Choice
from perfkit.recipes.frameworks import judge
from perfkit.recipes.ledger import Attempt, Forecast
from perfkit.recipes.recipe import Numerics, Prediction, Recipe, Situation
from perfkit.recipes.statistics import LEAST_PAIRS, RESOLVE

GLOBAL_RNG = "loader_draws_global_rng"  # what the ranks saw (docs/run-folder.md)
WORKERS = "loader"
SEARCH_RUNS = 2
"""Runs of each parameter of a recipe, to choose among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A recipe that could be tried: with which parameters, what it may do, what it should gain."""

    choice: Choice
    numerics: Numerics
    forecast: Forecast
    others: tuple["Candidate", ...] = ()  # the same recipe with other parameters

    @property
    def gain(self) -> float:
        """The share of the step that it should save; by its ceiling where no formula holds."""
        speed_up = self.forecast.expected or self.forecast.ceiling or 1.0
        return 1 - 1 / speed_up

    @property
    def runs(self) -> int:
        """How many runs it takes to try it, where the fewest pairs are enough."""
        return 2 * LEAST_PAIRS + self.searching

    @property
    def searching(self) -> int:
        """How many runs choose among its parameters."""
        return SEARCH_RUNS * (len(self.others) + 1) if self.others else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Candidates, best first, and the recipes that are left out, with the reason."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[Attempt, ...]


def candidates(
    recipes: Sequence[Recipe],
    situation: Situation,
    allowed: Numerics,
    *,
    done: Collection[str],
    past: Sequence[Pair],
) -> Sorted:
    """Rank the recipes by predicted gain per run, as every run takes about the same time.

    Those that are never kept come last: they are tried where the budget reaches. `done`: ids not to
    be looked at again. A recipe whose gain would be below what is worth keeping is left out.
    """
    found: list[Candidate] = []
    left_out: list[Attempt] = []
    for recipe in recipes:
        if recipe.id in done or not recipe.can_apply:
            continue
        prediction = judge(recipe, situation)
        if isinstance(prediction, Refusal):
            left_out.append(_left(recipe, recipe.numerics, None, str(prediction), "refused"))
            continue
        kind = numerics_of(recipe, situation)
        best, *others = (
            Candidate(
                choice=Choice(recipe=recipe, given=one.values),
                numerics=kind,
                forecast=forecast_of(recipe, one, past),
            )
            for one in (prediction, *prediction.others)
        )
        reason = _not_worth(recipe, kind, allowed, best.forecast)
        if reason:
            left_out.append(_left(recipe, kind, best.forecast, reason, "not_tried"))
            continue
        found.append(replace(best, others=tuple(others)))
    found.sort(key=lambda c: (not c.choice.recipe.keeps, -c.gain / c.runs, c.choice.label))
    return Sorted(candidates=tuple(found), left_out=tuple(left_out))


def numerics_of(recipe: Recipe, situation: Situation) -> Numerics:
    """Return what the recipe may do to the numbers of this script.

    Loader workers are exact only where no sample drew from a global generator, which workers seed
    in their own way.
    """
    if recipe.id == WORKERS and situation.seen.get(GLOBAL_RNG) is not False:
        return Numerics.NUMERICS if recipe.numerics is Numerics.EXACT else recipe.numerics
    return recipe.numerics


def forecast_of(recipe: Recipe, prediction: Prediction, past: Sequence[Pair]) -> Forecast:
    """Join a prediction with how far earlier ones of its recipe were off."""
    known = expected((recipe.id,), past)
    low, high = prediction.low, prediction.high
    if prediction.expected is not None and not known.unknown:
        low = min(low or prediction.expected, prediction.expected / (1 + known.error))
        high = max(high or prediction.expected, prediction.expected * (1 + known.error))
    return Forecast(
        ceiling=prediction.ceiling,
        expected=prediction.expected,
        low=low,
        high=high,
        basis=prediction.basis,
        why=prediction.why,
        past=known.pairs,
        past_error=None if known.unknown else known.error,
    )


def _not_worth(recipe: Recipe, kind: Numerics, allowed: Numerics, forecast: Forecast) -> str:
    most = forecast.expected or forecast.ceiling
    if most is None:
        return "nothing says what it could gain"
    if most < RESOLVE:
        return f"at most {most:.2f} times as fast is predicted"
    if not kind.within(allowed):
        gain = f"{'' if forecast.expected else 'at most '}{most:.2f} times as fast is predicted"
        more = " (its samples may draw from a global generator)"
        known = more if kind is not recipe.numerics else ""
        return f"{gain}, but it may change the numbers{known}: --allow {kind.value}"
    return ""


def _left(
    recipe: Recipe, kind: Numerics, forecast: Forecast | None, reason: str, decision: str
) -> Attempt:
    nothing = Forecast(ceiling=None, expected=None, low=None, high=None, basis="none", why="")
    return Attempt(
        recipe=recipe.id,
        label=recipe.id,
        title=recipe.title,
        numerics=kind.value,
        forecast=forecast or nothing,
        decision=decision,
        reason=reason,
    )

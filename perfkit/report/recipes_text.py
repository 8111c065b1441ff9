"""Recipes for the terminal: the list, one in detail, and which of them apply to a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.recipe import Prediction, Recipe
from perfkit.units import ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A recipe on a run."""

    recipe: Recipe
    answer: Prediction | Refusal


def listing(recipes: Sequence[Recipe]) -> str:
    """Return one line a recipe, by what it addresses."""
    order = ("communication", "compute", "io", "host", "memory")
    wide = max(len(r.id) for r in recipes)
    lines = []
    for family in order:
        lines.append(f"{family}")
        for r in (r for r in recipes if r.addresses == family):
            how = f"{r.application.value}, {r.numerics.value}"
            lines.append(f"  {r.id:<{wide}}  {how:<22}  {r.title}")
    return "\n".join(lines)


def detail(recipe: Recipe) -> str:
    """Return everything that is known of a recipe."""
    return "\n".join(_detail(recipe))


def _detail(recipe: Recipe) -> Iterator[str]:
    yield f"{recipe.id}: {recipe.title}"
    yield f"  addresses   {recipe.addresses}"
    yield f"  applied by  {recipe.application.value}" + ("" if recipe.keeps else " (never kept)")
    yield f"  numerics    {recipe.numerics.value}"
    if recipe.findings:
        yield f"  findings    {', '.join(recipe.findings)}"
    for parameter in recipe.parameters:
        text = f"{parameter.name}={parameter.default}  {parameter.help}"
        tried = ", ".join(str(c) for c in parameter.choices)
        yield f"  parameter   {text}" + (f" (a search tries {tried})" if tried else "")
    for reason in recipe.refuses:
        yield f"  refuses     {reason}"
    if recipe.caveat:
        yield f"  mind        {recipe.caveat}"
    yield "  for good:"
    yield from ("    " + line for line in recipe.for_good.format(**recipe.values()).splitlines())


def on_a_run(judged: Sequence[Judged], step: str) -> str:
    """Return what applies to a run, best first, then what does not and why."""
    fitting = [(j.recipe, j.answer) for j in judged if isinstance(j.answer, Prediction)]
    fitting.sort(key=lambda pair: (pair[1].expected or 1.0, pair[1].ceiling or 1.0), reverse=True)
    lines = [f"Recipes that apply to this run (step {step}); speed-ups of the step", ""]
    wide = max((len(r.id) for r, _ in fitting), default=0)
    for recipe, found in fitting:
        lines.append(f"  {recipe.id:<{wide}}  {_gain(found)}  [{_how(recipe)}]")
        lines.append(f"  {'':<{wide}}  {found.why}")
    if not fitting:
        lines.append("  none")
    lines += ["", "Refused"]
    for each in judged:
        if isinstance(each.answer, Refusal):
            lines.append(f"  {each.recipe.id}: {each.answer}")
    return "\n".join(lines)


def _how(recipe: Recipe) -> str:
    by_hand = "" if recipe.can_apply else "by hand, "
    return f"{by_hand}{recipe.numerics.value}"


def _gain(found: Prediction) -> str:
    most = f"at most {ratio(found.ceiling)}" if found.ceiling is not None else "limit unknown"
    if found.expected is None:
        return most
    return f"{ratio(found.expected)} ({ratio(found.low)} to {ratio(found.high)}), {most}"

"""`perfkit recipes`: every fix that perfkit knows, one in detail, or which fit a run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from perfkit.cli import console
from perfkit.errors import UsageError


def command(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME | RUN]",
            help="A recipe, or a run folder to say which recipes apply to it.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")
    ] = False,
) -> None:
    """List the recipes: what each addresses, how it is applied, what it does to the numbers.

    With NAME everything about one recipe. With RUN the recipes that apply to that run with the gain
    that is predicted, and why the others do not. Examples: perfkit recipes
    amp-bf16; perfkit recipes RUN
    """
    from perfkit.recipes.catalogue import BY_ID, RECIPES
    from perfkit.report import recipes_text

    if what is None:
        _show([_document(r) for r in RECIPES], recipes_text.listing(RECIPES), as_json)
        console.suggest("perfkit recipes NAME, or perfkit recipes RUN for what applies to a run")
    elif what in BY_ID:
        recipe = BY_ID[what]
        _show([_document(recipe)], recipes_text.detail(recipe), as_json, code=True)
        if recipe.can_apply:
            console.suggest(f"perfkit profile --recipe {recipe.id} -- CMD")
    elif Path(what).exists():
        _on_a_run(Path(what), as_json)
    else:
        raise UsageError(
            f"{what} is neither a recipe nor a run folder", hint="perfkit recipes lists them"
        )


def _on_a_run(path: Path, as_json: bool) -> None:
    from perfkit import units
    from perfkit.cli import results
    from perfkit.recipes.catalogue import RECIPES
    from perfkit.recipes.formulas import step_ms
    from perfkit.recipes.frameworks import judge
    from perfkit.recipes.recipe import Prediction
    from perfkit.recipes.situation import situation_of
    from perfkit.report import recipes_text
    from perfkit.trace import run as run_folder

    with console.progress("opening") as doing:
        run = run_folder.open_run([path])
        analysis = results.recall(path)
        doing("judging recipes")
        situation = situation_of(analysis, run, measured=results.measured_ceilings(run))
        judged = [recipes_text.Judged(recipe=r, answer=judge(r, situation)) for r in RECIPES]
    document = [
        {"recipe": j.recipe.id, "applies": isinstance(j.answer, Prediction), **asdict(j.answer)}
        for j in judged
    ]
    text = recipes_text.on_a_run(judged, units.milliseconds(step_ms(analysis)))
    _show(document, text, as_json)
    console.suggest("perfkit profile --recipe NAME -- CMD applies one")


def _document(recipe: Any) -> dict[str, Any]:
    names = ("id", "title", "addresses", "findings", "application", "numerics", "refuses", "caveat")
    parameters = [asdict(p) for p in recipe.parameters]
    return {name: getattr(recipe, name) for name in names} | {"parameters": parameters}


def _show(document: Sequence[Any], text: str, as_json: bool, *, code: bool = False) -> None:
    if as_json:
        console.tell_json({"schema_version": 1, "recipes": document})
    elif code:
        print(text)  # what is to be copied into a script is not folded
    else:
        console.tell(text)

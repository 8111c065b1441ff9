"""The catalogue: ids that others rely on, snippets that parse, the table of the docs."""

import ast
import re
from pathlib import Path

import pytest

from perfkit.analyzers.finding_catalogue import BY_ID as FINDINGS
from perfkit.analyzers.finding_catalogue import CATALOGUE
from perfkit.analyzers.whatif_changes import everything
from perfkit.recipes.catalogue import BY_ID, RECIPES, as_markdown
from perfkit.recipes.recipe import Application, Numerics, Recipe

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
IN_RANK = Path(__file__).parents[2] / "recipes" / "inrank"


def test_every_finding_and_prospect_names_a_recipe_that_exists() -> None:
    named = {entry.recipe for entry in CATALOGUE} | {change.recipe for change in everything()}
    assert named - {None} <= set(BY_ID)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.id)
def test_a_recipe_is_complete(recipe: Recipe) -> None:
    assert set(recipe.findings) <= set(FINDINGS)
    assert recipe.refuses and recipe.caveat and recipe.title
    if recipe.application is Application.PATCH:
        assert (IN_RANK / f"{recipe.in_rank}.py").is_file()
    assert (recipe.environment is not None) >= (recipe.application is Application.ENVIRONMENT)
    for parameter in recipe.parameters:
        assert all(isinstance(c, type(parameter.default)) for c in parameter.choices)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.id)
def test_its_snippet_is_python_or_a_command_line(recipe: Recipe) -> None:
    text = recipe.for_good.format(**recipe.values())
    assert text.strip()
    if not re.match(r"[A-Z_{]+.*=\S* torchrun|--batch-size", text):
        ast.parse(text)


def test_levels_of_numerics_add_up() -> None:
    assert Numerics.EXACT.within(Numerics.ALGORITHM)
    assert not Numerics.NUMERICS.within(Numerics.EXACT)


def test_the_docs_show_the_catalogue() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8")

"""Turn chosen recipes into the environment that applies them to a launched command."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perfkit.analyzers.refusal import Refusal
from perfkit.errors import UsageError
from perfkit.recipes.frameworks import SETTINGS
from perfkit.recipes.recipe import Application, Parameter, Recipe, Value, Values

VARIABLE = "PERFKIT_RECIPES"
RIVALS = (
    {"overlap", "coalesce"},
    {"amp-bf16", "amp-fp16"},
    {"bf16-gradients", "fp16-gradients", "powersgd"},
    {"no-sync", "gradient-accumulation"},
)
LOOKS_AT_VARIABLES = "environment"  # module in recipes/inrank/
IN_RANK = Path(__file__).resolve().parent / "inrank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A recipe with the parameters that it is applied with; what is not given is the default."""

    recipe: Recipe
    given: Values = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The form that `--recipe` takes: `ddp-buckets:mb=4`."""
        parts = [f"{name}={value}" for name, value in self.given.items()]
        return ":".join([self.recipe.id, *parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """Variables for the launched command, and the recipes that its environment already rules out.

    An environment recipe whose variable the user has set is refused here: the user's choice wins.
    Refusals inside the ranks are in the run folder (perfkit.trace.recipe_log).
    """

    environment: Mapping[str, str]
    refused: Mapping[str, Refusal]


def activate(choices: Sequence[Choice], environ: Mapping[str, str]) -> Activation:
    """Return what applies `choices` together; () only observes the script.

    Raises UsageError for a suggestion, which nobody but its author can apply, and for a recipe that
    is named twice.
    """
    variables: dict[str, str] = {}
    refused: dict[str, Refusal] = {}
    asked = []
    on: list[str] = []
    for choice in choices:
        recipe, values = choice.recipe, choice.recipe.values(choice.given)
        if recipe.id in on:
            raise UsageError(
                f"--recipe {recipe.id} is given twice", hint="once, with the parameters you want"
            )
        if recipe.application is Application.SUGGESTION:
            raise UsageError(
                f"--recipe {recipe.id}: this one is a change of the script that only you can make",
                hint=f"perfkit recipes {recipe.id} shows it",
            )
        if other := next((name for name in on if rivals(name, recipe.id)), ""):
            reason = f"{other} is on and does the same in another way"
            refused[recipe.id] = Refusal(reason=reason, remedy="choose one of them")
            continue
        on.append(recipe.id)
        added = {} if recipe.environment is None else recipe.environment(values, environ)
        if isinstance(added, Refusal):
            refused[recipe.id] = added
            continue
        variables |= added
        asked.append(_asked(choice, values, added))
    request = {"folder": str(IN_RANK), "recipes": asked, "environment": variables}
    variables[VARIABLE] = json.dumps(request, separators=(",", ":"))
    return Activation(environment=variables, refused=refused)


def rivals(one: str, other: str) -> bool:
    """Whether two recipes act on the same thing, so that only one of them can be on."""
    return any({one, other} <= group for group in RIVALS)


def _asked(choice: Choice, values: Values, variables: Mapping[str, str]) -> dict[str, object]:
    """Return what the ranks are told of one recipe."""
    recipe = choice.recipe
    by_variables = recipe.application is Application.ENVIRONMENT
    return {
        "id": recipe.id,
        "label": choice.label,
        "module": LOOKS_AT_VARIABLES if by_variables else recipe.in_rank,
        "values": values,
        "variables": dict(variables),
        "settings": {name: of[recipe.id] for name, of in SETTINGS.items() if recipe.id in of},
    }


def parse(text: str, known: Mapping[str, Recipe]) -> tuple[Choice, ...]:
    """Return the choices of `NAME[:key=value]...[,NAME...]`. Raises UsageError."""
    return tuple(_choice(part.strip(), known) for part in text.split(",") if part.strip())


def _choice(text: str, known: Mapping[str, Recipe]) -> Choice:
    name, *settings = text.split(":")
    if name not in known:
        raise UsageError(f"--recipe {name}: there is no such recipe", hint="perfkit recipes")
    recipe = known[name]
    parameters = {p.name: p for p in recipe.parameters}
    given: dict[str, Value] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in parameters:
            names = ", ".join(parameters) or "none"
            raise UsageError(
                f"--recipe {text}: {setting!r} sets no parameter of {name} (it has {names})",
                hint=f"perfkit recipes {name}",
            )
        given[key] = _value(value, parameters[key], text)
    return Choice(recipe=recipe, given=given)


def _value(text: str, parameter: Parameter, whole: str) -> Value:
    kind = type(parameter.default)
    try:
        value: Value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        fault = parameter.fault(value)
    except (ValueError, KeyError):
        fault = f"is no {kind.__name__}"
    if fault:
        raise UsageError(
            f"--recipe {whole}: {parameter.name}={text} {fault}",
            hint=f"for example {parameter.name}={parameter.default}",
        )
    return value

"""What a recipe is: a fix that can be predicted, applied without touching the script, and kept.

A recipe says which findings it answers, how it is applied, what it does to the numbers, and what
it can gain on a given run. Its in-rank part, if it has one, is the module `in_rank` in
`recipes/inrank/`; it is loaded inside the training's processes and knows nothing of this file.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis
from perfkit.roofline.ceilings import Ceilings

Value = bool | int | float | str
Values = Mapping[str, Value]


class Application(StrEnum):
    """How a recipe is applied."""

    ENVIRONMENT = "environment"  # variables of the launched command
    PATCH = "patch"  # at run time, inside each rank
    SUGGESTION = "suggestion"  # by hand only


class Numerics(StrEnum):
    """What a recipe may do to the numbers, mildest first."""

    EXACT = "exact"  # the same arithmetic
    NUMERICS = "numerics"  # other rounding
    ALGORITHM = "algorithm"  # another algorithm: convergence has to be looked at

    def within(self, allowed: "Numerics") -> bool:
        """Whether this class may be tried where `allowed` is the highest level; levels add up."""
        order = list(Numerics)
        return order.index(self) <= order.index(allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One setting of a recipe. `choices` are values that are worth a try, best guess first.

    least: the smallest number that makes sense. pattern: what a text has to match as a whole.
    """

    name: str
    default: Value
    help: str
    choices: tuple[Value, ...] = ()
    least: float = 0.0
    pattern: str = ".*"

    def fault(self, value: Value) -> str:
        """Return what is wrong with a value of the right type; "" if nothing is."""
        if isinstance(value, str):
            return "" if re.fullmatch(self.pattern, value) else f"is not of {self.pattern}"
        if not math.isfinite(value) or value < self.least:
            return f"is not a number of {self.least:g} or more"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a recipe can gain on a run, as speed-ups of the step (1.5: half as long again before).

    ceiling: the most that its target's removal could give; None where the capture cannot say.
    expected, low, high: None where no formula holds; `why` then says what is missing.
    """

    ceiling: float | None
    expected: float | None
    low: float | None
    high: float | None
    basis: str  # "formula", "replay", "none"
    why: str  # the formula with this run's numbers in it
    values: Values = field(default_factory=dict)  # parameters that the prediction is for
    others: tuple["Prediction", ...] = ()  # for other parameters: a search measures them too


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A run as recipes see it.

    facts: facts.json of the first rank. seen: what the ranks observed of the script
    (docs/run-folder.md, recipes.jsonl). environ: the environment that the training would get.
    micro_batches: backward passes per step, median. ceilings: measured on the run's machine, of as
    many threads as the first rank computed with; None where there are none.
    """

    analysis: Analysis
    facts: Mapping[str, object]
    seen: Mapping[str, object] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    micro_batches: int = 1
    ceilings: Ceilings | None = None

    def fact(self, *path: str) -> object:
        """Look a recorded fact up; None where it is absent."""
        found: object = self.facts
        for key in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found

    def number(self, *path: str) -> float:
        """Look a recorded number up; 0 where it is absent."""
        found = self.fact(*path)
        return float(found) if isinstance(found, int | float) else 0.0


Applicable = Callable[[Situation], Prediction | Refusal]
Environment = Callable[[Values, Mapping[str, str]], Mapping[str, str] | Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One fix. `id` is what findings and `--recipe` name it by."""

    id: str
    title: str
    addresses: str  # compute, communication, io, host, memory
    findings: tuple[str, ...]  # ids that suggest it
    application: Application
    numerics: Numerics
    applicable: Applicable
    refuses: tuple[str, ...]  # when it leaves the run alone, for people
    parameters: tuple[Parameter, ...] = ()
    in_rank: str = ""  # module in recipes/inrank/
    environment: Environment | None = None  # of Application.ENVIRONMENT
    for_good: str = ""  # the source change, as a snippet; {name} stands for a parameter
    caveat: str = ""  # what to know before keeping it
    keeps: bool = True  # False: may be tried and reported, never kept

    @property
    def can_apply(self) -> bool:
        """Whether perfkit itself can apply it."""
        return self.application is not Application.SUGGESTION

    def values(self, given: Values | None = None) -> dict[str, Value]:
        """Return all parameters, those of `given` instead of the defaults."""
        return {p.name: p.default for p in self.parameters} | dict(given or {})

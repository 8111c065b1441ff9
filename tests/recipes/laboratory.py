"""A laboratory in which step times and numbers follow a made-up law: no process is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis
from perfkit.recipes import ledger
from perfkit.recipes.activation import Choice
from perfkit.recipes.measured import Measured, Wanted
from perfkit.recipes.recipe import (
    Application,
    Numerics,
    Prediction,
    Recipe,
    Situation,
    Value,
)
from perfkit.recipes.search import Diagnosis, Search, Settings
from perfkit.trace.numerics import RankNumbers

NOT_LOOKED_AT = cast(Analysis, None)  # made-up recipes predict what they are told
Law = Callable[[frozenset[str]], float]


def recipe(
    name: str,
    gain: float | None,
    *,
    numerics: Numerics = Numerics.EXACT,
    keeps: bool = True,
    refuses: str = "",
    sizes: Mapping[int, float] | None = None,
) -> Recipe:
    """Return a recipe that predicts this speed-up wherever it is asked, or one for each size."""
    wanted: list[tuple[dict[str, Value], float | None]] = [({}, gain)]
    if sizes is not None:
        wanted = [({"mb": size}, known) for size, known in sizes.items()]

    def applicable(situation: Situation) -> Prediction | Refusal:
        if refuses:
            return Refusal(reason=refuses)
        first, *others = (
            Prediction(
                ceiling=known, expected=known, low=known, high=known, basis="formula",
                why="made up", values=values,
            )
            for values, known in wanted
        )  # fmt: skip
        return replace(first, others=tuple(others))

    return Recipe(
        id=name,
        title=f"Recipe {name}",
        addresses="compute",
        findings=(),
        application=Application.PATCH,
        numerics=numerics,
        applicable=applicable,
        refuses=(),
        in_rank=name,
        keeps=keeps,
    )


def numbers(shift: float = 0.0, *, ranks: int = 2, apart: bool = False) -> list[RankNumbers]:
    """Return the numbers of all ranks; `shift` moves them all, relative."""
    steps = np.arange(40, dtype=np.float64)
    return [
        RankNumbers(
            rank=rank,
            losses=np.exp(-steps / 50) * (1 + shift * np.minimum(steps, 1)),
            norms={0: 1.0, 10: 0.9},
            gradient=np.linspace(-1, 1, 64),
            parameters=np.linspace(0.5, 1, 64) * (1 + shift) + apart * rank,
            peak_bytes=None,
        )
        for rank in range(ranks)
    ]


@dataclass
class FakeLaboratory:
    """Measures by `law`: the recipes that are on, and their labels -> ms.

    `noise`: sd of the log of a run.
    """

    law: Law
    noise: float = 0.0
    seconds: float = 1.0
    trouble: dict[str, str] = field(default_factory=dict)  # recipe -> why its run fails
    refused: dict[str, str] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)  # recipe -> what it does to numbers
    parts: frozenset[frozenset[str]] = frozenset()  # recipes that together make ranks diverge
    seed: int = 0
    seeds: dict[str, int] = field(default_factory=dict)  # of each trial
    ran: list[str] = field(default_factory=list)
    interrupt_after: int | None = None

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)

    def run(self, wanted: Wanted) -> Measured:
        if self.interrupt_after is not None and len(self.ran) >= self.interrupt_after:
            raise KeyboardInterrupt
        self.ran.append(wanted.name)
        self.seeds[wanted.name] = wanted.seed
        on = frozenset(name for c in wanted.stack for name in (c.recipe.id, c.label))
        for name in sorted(on & self.trouble.keys()):
            return Measured(wanted=wanted, ok=False, reason=self.trouble[name], seconds=1.0)
        ms = self.law(on) * float(np.exp(self.chance.normal(0, self.noise)))
        shift = sum(self.shifts.get(name, 0.0) for name in on)
        return Measured(
            wanted=wanted,
            ok=True,
            step_ms=ms,
            steps_made=wanted.steps,
            seconds=self.seconds,
            numbers=numbers(shift, apart=any(part <= on for part in self.parts)),
            refused={name: why for name, why in self.refused.items() if name in on},
        )

    def diagnose(self, name: str, stack: Sequence[Choice]) -> Diagnosis | Refusal:
        self.ran.append(name)
        labels = tuple(choice.label for choice in stack)
        return Diagnosis(
            situation=Situation(analysis=NOT_LOOKED_AT, facts={}),
            diagnosed=ledger.Diagnosed(
                stack=labels,
                trial=name,
                label="compute",
                dominant="compute",
                step_ms=None,
                findings=(),
            ),
            seconds=self.seconds,
        )


def empty_book() -> ledger.Optimization:
    """Return a ledger without entries."""
    return ledger.Optimization(
        schema_version=ledger.SCHEMA_VERSION,
        perfkit_version="0",
        command="train",
        allow="exact",
        budget_s=1e6,
        spent_s=0.0,
        steps=40,
        baseline_ms=None,
        noise_log_sd=None,
        resolves=None,
        pairs=None,
    )


def search(
    laboratory: FakeLaboratory, recipes: Sequence[Recipe], settings: Settings | None = None
) -> ledger.Optimization:
    """Run a whole search; fails where the baseline is refused."""
    settings = settings or Settings(budget_s=1e6)
    found = Search(laboratory, recipes, settings, empty_book()).run()
    assert isinstance(found, ledger.Optimization), found
    return found

"""Real trainings with one injected fault each, for the corpus: gloo ranks under `perfkit profile`.

The truth comes from the ranks' own clocks (tests/truth): what the fault took, and what the machine
took for others. Four ranks share few cores, so their compute is the sleeping accelerator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.corpus.judge import Outcome, outcome_of
from tests.corpus.scenario import CAUSES
from tests.truth.harness import DEFAULT_WINDOW, Ended, StepTruth, run_workload

STEP_MS = 60.0
STRENGTHS_MS = {"weak": 9.0, "medium": 25.0, "strong": 120.0}
BASE = ("--steps=24", f"--accelerator-ms={STEP_MS}")
MOST_LOST = 0.05
"""Runs in which other processes took more than this share of a rank's time are not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a cause is put into the workload, and which part of its own log shows it."""

    flags: Callable[[float], tuple[str, ...]]
    part: Callable[[StepTruth], float]


RECIPES = {
    "loader": Recipe(flags=lambda ms: (f"--loader-ms={ms}",), part=lambda t: t.input_ms),
    "loader_rank": Recipe(
        flags=lambda ms: (f"--loader-ms={ms}", "--fault-ranks", "1"), part=lambda t: t.input_ms
    ),
    "host": Recipe(flags=lambda ms: (f"--host-ms={ms}",), part=lambda t: t.host_ms),
    "checkpoint": Recipe(
        flags=lambda ms: ("--checkpoint-every=2", f"--checkpoint-ms={2 * ms}"),
        part=lambda t: t.checkpoint_ms,
    ),
}
"""What the workload can inject today without a shaped link or more than two cores."""


def real_case(folder: Path, cause: str, strength: str, seed: int, ranks: int) -> Outcome | str:
    """Run one training and judge it; a sentence where the machine was too busy for a truth."""
    added = STRENGTHS_MS.get(strength, 0.0)
    flags = RECIPES[cause].flags(added) if cause else ()
    ended = run_workload(folder, *BASE, *flags, ranks=ranks)
    if any(ended.statuses):
        return f"the training failed: {ended.stderr[-200:]}"
    lost = ended.contention(DEFAULT_WINDOW)
    if lost > MOST_LOST:
        return f"the machine was too busy: {lost:.0%} of a rank's time went to others"
    return _judged(ended, cause, strength, seed, ranks)


def _judged(ended: Ended, cause: str, strength: str, seed: int, ranks: int) -> Outcome:
    step_ms = float(
        np.mean([ended.mean_ms(lambda t: t.step_ms, r, DEFAULT_WINDOW) for r in range(ranks)])
    )
    injected = 0.0
    if cause:
        part = RECIPES[cause].part
        injected = max(ended.mean_ms(part, rank, DEFAULT_WINDOW) for rank in range(ranks))
    family = CAUSES[cause].family if cause else ""
    costs = {"compute": STEP_MS / step_ms, "communication": 0.0, "io": 0.0, "host": 0.0}
    if family:
        costs[family] += injected / step_ms
    rest = max(0.0, 1.0 - sum(costs.values()))  # gloo and Python: the workload cannot tell them
    costs["communication"] += rest
    return outcome_of(
        ended.analyze(),
        name=f"real {cause or 'none'} {strength} {seed} {ranks}",
        kind="real",
        seed=seed,
        causes=(cause,) if cause else (),
        strength=strength,
        injected_ms=injected,
        step_ms=step_ms,
        rank=1 if cause and CAUSES[cause].one_rank else None,
        costs=costs,
    )

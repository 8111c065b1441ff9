"""GPU-like runs of several ranks whose truth is exact, because they were made up.

The truth is counterfactual: what a family of causes costs is by how much the same training, with
the same noise, is faster without it (the mean over the orders in which families can be left out, so
that nothing is counted twice). That uses no formula of perfkit's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from perfkit.trace.kinds import ROLLUP, Kind
from perfkit.trace.model import RankRecord, RankTrace, Run, StepLines
from tests.builders import Item, StepItem, rank_trace, run_of, step_lines
from tests.corpus.scenario import CAUSES, Scenario
from tests.corpus.simulate import Play, Rank

RECOVERABLE = ("communication", "io", "host")
NUDGE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is so, in ms per step. costs: what leaving a family out would save; compute the rest.

    elasticity: by how much the step shrinks if a family does, relative, for small changes.
    injected_ms: what leaving out all faults would save. rank: None where no single rank is at
    fault.
    """

    causes: tuple[str, ...]
    rank: int | None
    injected_ms: float
    step_ms: float
    costs_ms: dict[str, float]
    elasticity: dict[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """The cost of each family over the step."""
        return {family: ms / self.step_ms for family, ms in self.costs_ms.items()}


def truth_of(scenario: Scenario, played: Play) -> Truth:
    """Play the scenario again without each part in turn."""
    whole = played.period_ms
    costs = {family: max(0.0, ms) for family, ms in _costs(scenario, whole).items()}
    ranks = {f.rank for f in scenario.faults if CAUSES[f.cause].one_rank}
    return Truth(
        causes=tuple(f.cause for f in scenario.faults),
        rank=ranks.pop() if ranks else None,
        injected_ms=whole - Play(scenario, faults=False).period_ms,
        step_ms=whole,
        costs_ms={"compute": max(0.0, whole - sum(costs.values())), **costs},
        elasticity={
            f: (1.0 - Play(scenario, {f: 1.0 - NUDGE}).period_ms / whole) / NUDGE for f in ROLLUP
        },
    )


def _costs(scenario: Scenario, whole: float) -> dict[str, float]:
    """Return what leaving each family out saves, the mean over all orders of leaving them out."""
    subsets = [frozenset(s) for n in range(1, 4) for s in combinations(RECOVERABLE, n)]
    period = {frozenset[str](): whole}
    period |= {s: Play(scenario, dict.fromkeys(s, 0.0)).period_ms for s in subsets}
    costs = dict.fromkeys(RECOVERABLE, 0.0)
    for order in permutations(RECOVERABLE):
        gone: frozenset[str] = frozenset()
        for family in order:
            costs[family] += (period[gone] - period[gone | {family}]) / 6
            gone |= {family}
    return costs


def capture(scenario: Scenario, played: Play) -> tuple[Run, Callable[[RankRecord], RankTrace]]:
    """Return the run as perfkit would read it, and the function that loads its ranks."""
    random = np.random.default_rng((scenario.seed, 11))
    traces = []
    for rank, clock_ms in zip(played.ranks, scenario.clocks_ms, strict=True):
        contents: list[Item | StepItem] = [*rank.steps, *_kept(rank, scenario, random)]
        traces.append(
            rank_trace(
                *contents,
                rank=rank.number,
                world_size=scenario.ranks,
                clock_ms=clock_ms,
                clock_domain=f"boot-{rank.number}",
                node=f"node-{rank.number}",
            )
        )
    lines = {r.number: _lines(r) for r in played.ranks} if scenario.step_lines else None
    return run_of(*traces, lines=lines, run_id=f"corpus {scenario.seed} {scenario.faults}")


DROPPABLE = (Kind.OP, Kind.KERNEL)


def _kept(rank: Rank, scenario: Scenario, random: np.random.Generator) -> list[Item]:
    """Lose some operators and kernels, as a profiler with full buffers does."""
    lost = random.random(len(rank.items)) < scenario.dropped
    return [
        item
        for item, gone in zip(rank.items, lost, strict=True)
        if not (gone and item.kind in DROPPABLE)
    ]


def _lines(rank: Rank) -> StepLines:
    return step_lines(
        [s.ns / 1e6 for s in rank.steps],
        input_ms=rank.input_ms,
        checkpoint_ms=rank.saved_ms,
        profiled=range(len(rank.steps)),
    )

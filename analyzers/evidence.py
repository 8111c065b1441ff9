"""Everything that is known once ranks are joined: what quality, findings and the sentence read."""

from collections.abc import Mapping
from dataclasses import dataclass

from perfkit.analyzers.clock_check import ClockCheck
from perfkit.analyzers.clocks import DomainClock
from perfkit.analyzers.result import Blame, Budget, CollectiveRow, GroupRow, Straggler
from perfkit.analyzers.result_network import NetworkFit
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.steps import WholeRun
from perfkit.analyzers.survey import RankSurvey
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import RankRecord, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCounts:
    """How the collective calls of the analysed steps were matched."""

    by_sequence: int
    by_order: int
    unmatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The joined facts of a run. Shares are of all ranks' windows together, after blame."""

    run: Run
    surveys: Mapping[int, RankSurvey]
    steps: tuple[int, ...]  # analysed
    whole: WholeRun
    budget: Budget
    shares: Mapping[TimeClass, float]
    blame: tuple[Blame, ...]
    lost_overlap_ms: Mapping[tuple[int, str], float]  # mean over ranks, by late rank and class
    stragglers: tuple[Straggler, ...]
    late_rank: int | None  # the rank that is last too often for chance
    unsure_late: tuple[int, ...]  # ranks that seem late by less than ends of collectives agree
    collectives: tuple[CollectiveRow, ...]
    groups: tuple[GroupRow, ...]
    networks: tuple[NetworkFit, ...]
    nodes: Mapping[int, str]  # where each analysed rank ran
    node_bandwidth_gbyte_per_s: Mapping[str, float]  # bus bandwidth of groups inside each node
    clocks: tuple[DomainClock, ...]
    clock_checks: tuple[ClockCheck, ...]
    matched: MatchCounts
    pipeline: PipelineFacts | None
    compute_spread: float  # longest less shortest compute of a step's ranks, over their mean

    @property
    def on_device(self) -> bool:
        """Whether the analysed ranks compute on accelerators."""
        return any(s.windows.on_device for s in self.surveys.values())

    @property
    def mean_window_ms(self) -> float:
        """The mean window over ranks and steps."""
        windows = [r.window_ms for r in self.budget.per_rank]
        return sum(windows) / len(windows) if windows else 0.0

    @property
    def missing_ranks(self) -> tuple[int, ...]:
        """Ranks of the job that left no record."""
        present = {r.rank for r in self.run.ranks}
        return tuple(r for r in range(self.run.world_size) if r not in present)

    def ms(self, time_class: TimeClass) -> float:
        """Return the class's mean time per step before blame, 0 where it has no recorder."""
        found = self.budget.classes.get(time_class.key)
        return found.ms if found is not None else 0.0

    def share(self, *classes: TimeClass) -> float:
        """Return the share of these classes after blame."""
        return sum(self.shares.get(c, 0.0) for c in classes)

    def rank_ms(self, time_class: TimeClass) -> dict[int, float]:
        """Return the class's mean time per step on each rank that recorded it."""
        return {
            r.rank: found.ms
            for r in self.budget.per_rank
            if (found := r.classes.get(time_class.key)) is not None
        }


def fact(record: RankRecord, *path: str) -> object:
    """Look a recorded fact up; None where it is absent."""
    found: object = record.facts
    for key in path:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found

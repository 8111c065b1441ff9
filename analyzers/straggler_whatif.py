"""How much faster a job would be without stragglers, and which stage, rank or operation they are.

The ideal timeline gives every compute operation the mean duration of its kind and every transfer
the median, and plays the step again; slow-down S = T / T_ideal, waste = 1 - 1/S. S of a part keeps
only that part's own durations in the ideal timeline. M of a set is the share of the loss that
fixing only this set would win back; it may leave [0, 1] because fixes interact.
Source: OSDI'25 "Understanding Stragglers in Large Model Training Using What-if Analysis", artifact
ByteDance-Seed/StragglerAnalysis (analysis rule v4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.megatron_graph import (
    COMMUNICATION,
    PipelineOps,
    megatron_graph,
    step_times_s,
)
from perfkit.analyzers.replay import F64, I64, Plan, Work
from perfkit.analyzers.replay_edit import equalised, replaced

SLOWEST_SHARE = 0.03
"""Of all ranks: how many count as suspects (at least one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerWhatIf:
    """Slow-downs as ratios of mean step times; 1 means no loss."""

    actual_s: float  # mean step, replayed without launch delays
    ideal_s: float
    slow_down: float
    waste: float
    by_step: dict[int, float]
    by_stage: dict[int, float]
    by_replica: dict[int, float]
    by_kind: dict[str, float]
    suspects: tuple[int, ...]  # ranks, replica * stages + stage, slowest first
    fixed_suspects_share: float | None  # M_W; None where nothing is lost
    fixed_last_stage_share: float | None  # M_S


def straggler_what_if(ops: PipelineOps) -> StragglerWhatIf:
    """Replay the steps as they were, ideal, and in between."""
    return _Analysis(ops).result()


def slow_down(actual_s: float, ideal_s: float) -> tuple[float, float]:
    """Return S = T / T_ideal and the share of the time that is wasted, 1 - 1/S."""
    ratio = float(actual_s / ideal_s)
    return ratio, 1 - 1 / ratio


class _Analysis:
    """One graph, replayed under several sets of durations."""

    def __init__(self, ops: PipelineOps) -> None:
        self.ops = ops
        self.graph = megatron_graph(ops)
        self.plan = Plan(self.graph)
        self.actual = self.plan.unchanged
        compute = [k for k in self.graph.kinds if k not in COMMUNICATION]
        ideal = equalised(self.graph, self.actual, compute, statistic="mean")
        self.ideal = equalised(self.graph, ideal, COMMUNICATION, statistic="median")
        self.steps = np.unique(ops.step)
        self.actual_steps, self.ideal_steps = self.times(self.actual), self.times(self.ideal)

    def times(self, work: Work) -> F64:
        schedule = self.plan.run(work)
        return step_times_s(self.ops, schedule.end_ns, schedule.start_ns)

    def only(self, tasks: I64) -> float:
        """Return the slow-down that these tasks alone cause."""
        work = replaced(self.ideal, tasks, self.actual.duration_ns[tasks])
        return float(self.times(work).mean() / self.ideal_steps.mean())

    def fixed(self, chosen: NDArray[np.bool_]) -> float | None:
        """Return the share of the loss that idealising these tasks alone wins back."""
        lost = self.actual_steps.mean() - self.ideal_steps.mean()
        if not lost > 0:
            return None
        tasks = np.nonzero(chosen)[0]
        work = replaced(self.actual, tasks, self.ideal.duration_ns[tasks])
        return float((self.actual_steps.mean() - self.times(work).mean()) / lost)

    def each(self, labels: I64) -> dict[int, float]:
        return {int(v): self.only(np.nonzero(labels == v)[0]) for v in np.unique(labels)}

    def result(self) -> StragglerWhatIf:
        by_stage, by_replica = self.each(self.ops.stage), self.each(self.ops.replica)
        suspects = self._suspects(by_stage, by_replica)
        ratio, waste = slow_down(self.actual_steps.mean(), self.ideal_steps.mean())
        per_step = self.actual_steps / self.ideal_steps
        return StragglerWhatIf(
            actual_s=float(self.actual_steps.mean()),
            ideal_s=float(self.ideal_steps.mean()),
            slow_down=ratio,
            waste=waste,
            by_step={int(s): float(r) for s, r in zip(self.steps, per_step, strict=True)},
            by_stage=by_stage,
            by_replica=by_replica,
            by_kind=self._by_kind(),
            suspects=suspects,
            fixed_suspects_share=self.fixed(np.isin(self.graph.rank, suspects)),
            fixed_last_stage_share=self.fixed(self.ops.stage == self.ops.stage.max()),
        )

    def _by_kind(self) -> dict[str, float]:
        # Sends and receives of one direction are one exchange.
        merged = {
            "forward-send": "forward-pp-comm",
            "forward-recv": "forward-pp-comm",
            "backward-send": "backward-pp-comm",
            "backward-recv": "backward-pp-comm",
        }
        labels = np.array([merged.get(k, k) for k in self.ops.kind])
        return {str(k): self.only(np.nonzero(labels == k)[0]) for k in np.unique(labels)}

    def _suspects(
        self, by_stage: Mapping[int, float], by_replica: Mapping[int, float]
    ) -> tuple[int, ...]:
        """Return the slowest ranks: a rank's score is the lesser of its row's and its column's."""
        stages = len(by_stage)
        scores = {
            replica * stages + stage: min(by_replica[replica], by_stage[stage])
            for replica in by_replica
            for stage in by_stage
        }
        count = ceil(len(scores) * SLOWEST_SHARE)
        return tuple(sorted(scores, key=lambda rank: (-scores[rank], rank))[:count])

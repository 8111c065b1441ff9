"""Bring the surveyed ranks together: common steps, matched collectives, split waits, blame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.attribution import N_CLASSES, class_table, split_communication
from perfkit.analyzers.blame import F64, Charges, RankView, charge_waits
from perfkit.analyzers.clock_check import ClockCheck, check_clocks
from perfkit.analyzers.clocks import DomainClock, align_clocks
from perfkit.analyzers.collective_split import (
    InstanceTimes,
    RankSplit,
    comm_intervals,
    split_instances,
)
from perfkit.analyzers.evidence import MatchCounts
from perfkit.analyzers.lost_overlap import LostOverlap, lost_overlap
from perfkit.analyzers.matching import BY_SEQUENCE, Instance, match_calls
from perfkit.analyzers.result import Blame
from perfkit.analyzers.shelf import Shelf
from perfkit.analyzers.survey import RankSurvey
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE

UNKNOWN_CAUSE = "unknown"
"""The class of blame that no rank's extra time explains; its rank is -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The analysed steps of all traced ranks. tables: per rank (steps, classes), nanoseconds."""

    steps: I64
    views: Mapping[int, RankView]
    tables: Mapping[int, I64]
    unrecorded: Mapping[int, frozenset[TimeClass]]
    instances: tuple[Instance, ...]
    times: InstanceTimes
    clocks: tuple[DomainClock, ...]
    clock_checks: tuple[ClockCheck, ...]
    rank_clocks: Mapping[int, DomainClock | None]  # None: unknown, or not to be trusted
    charges: Charges
    lost: LostOverlap
    matched: MatchCounts

    @property
    def window_ns(self) -> I64:
        """All ranks' windows of each step together."""
        return sum((t.sum(axis=1) for t in self.tables.values()), np.zeros(len(self.steps), int))

    @property
    def charged_ns(self) -> F64:
        """Time per step and class after blame, all ranks together; same sums as before."""
        table = np.zeros((len(self.steps), N_CLASSES))
        for own in self.tables.values():
            table += own
        table += self.charges.per_step
        table[:, TimeClass.COMM_WAIT] = self.charges.unknown
        table[:, TimeClass.COMM_TRANSFER] -= self.lost.per_step.sum(axis=1)
        table += self.lost.per_step
        return table


def join_ranks(
    surveys: Mapping[int, RankSurvey], world_size: int, shelf: Shelf | None = None
) -> Joined:
    """Join the surveys of all traced ranks of a job with `world_size` ranks.

    What grows with a rank's events is put on `shelf`; without one it stays in memory.
    """
    shelf = shelf or Shelf()
    steps = common_steps(list(surveys.values()))
    calls = {rank: survey.calls for rank, survey in surveys.items()}
    domains = {rank: survey.clock_domain for rank, survey in surveys.items()}
    instances = match_calls(calls, world_size)
    clocks = align_clocks(calls, domains, instances)
    checks = check_clocks(calls, domains, instances, clocks)
    rank_clocks = _trusted(clocks, checks, domains)
    times, splits = split_instances(calls, instances, rank_clocks)
    views = {rank: _view(surveys[rank], splits[rank], steps, shelf) for rank in surveys}
    tables = {rank: class_table(view.parts, view.windows) for rank, view in views.items()}
    charges = charge_waits(views, instances, times)
    return Joined(
        steps=steps,
        views=views,
        tables=tables,
        unrecorded={r: s.unrecorded | _inseparable(views[r]) for r, s in surveys.items()},
        instances=instances,
        times=times,
        clocks=clocks,
        clock_checks=checks,
        rank_clocks=rank_clocks,
        charges=charges,
        lost=lost_overlap(views, tables, times, charges),
        matched=_count_matches(views, instances),
    )


def _trusted(
    clocks: Sequence[DomainClock], checks: Sequence[ClockCheck], domains: Mapping[int, str]
) -> dict[int, DomainClock | None]:
    suspect = {check.domain for check in checks if check.suspect}
    by_domain = {clock.domain: clock for clock in clocks if clock.domain not in suspect}
    return {rank: by_domain.get(domain) for rank, domain in domains.items()}


def common_steps(surveys: Sequence[RankSurvey]) -> I64:
    """Return the steps that all ranks captured whole and in which nobody evaluated.

    If every common step holds an evaluation, the run is one, and all of them count.
    """
    if not surveys:
        return np.empty(0, dtype=np.int64)
    common = surveys[0].windows.step
    for survey in surveys[1:]:
        common = np.intersect1d(common, survey.windows.step)
    with_eval = [s.windows.step[s.windows.has_eval] for s in surveys]
    training = np.setdiff1d(common, np.concatenate(with_eval))
    return training if len(training) else common


def blame_rows(charges: Charges) -> tuple[Blame, ...]:
    """Return who is blamed for what: ms per step, mean over ranks, the largest first."""
    share = max(len(charges.unknown) * len(charges.ranks), 1) * 1e6
    rows = [
        Blame(rank=rank, class_=time_class.key, ms=ns / share)
        for (rank, time_class), ns in charges.by_rank.items()
    ]
    unknown = float(charges.unknown.sum())
    if unknown > 0:
        rows.append(Blame(rank=NONE, class_=UNKNOWN_CAUSE, ms=unknown / share))
    rows.sort(key=lambda b: (-b.ms, b.rank, b.class_))
    return tuple(rows)


def _view(survey: RankSurvey, split: RankSplit, steps: I64, shelf: Shelf) -> RankView:
    transfer, bubble, wait = comm_intervals(survey.calls, split)
    cuts = survey.windows.intervals.ravel()
    parts = split_communication(survey.parts, transfer, bubble, wait, cuts)
    return RankView(
        calls=survey.calls,
        split=split,
        kept_parts=shelf.keep(f"split{survey.rank}", parts),
        windows=survey.windows.only(steps),
    )


def _inseparable(view: RankView) -> frozenset[TimeClass]:
    """Name the classes that nothing on this rank could show, for want of the other ranks."""
    if len(view.calls) and not view.split.matched.any():
        return frozenset({TimeClass.COMM_TRANSFER, TimeClass.COMM_WAIT, TimeClass.PIPE_BUBBLE})
    return frozenset()


def _count_matches(views: Mapping[int, RankView], instances: Sequence[Instance]) -> MatchCounts:
    counts = {"sequence": 0, "order": 0, "unmatched": 0}
    for view in views.values():
        rows = np.isin(view.calls.step, view.windows.step)
        for number in view.split.instance[rows].tolist():
            if number == NONE:
                counts["unmatched"] += 1
            elif instances[number].matched_by == BY_SEQUENCE:
                counts["sequence"] += 1
            else:
                counts["order"] += 1
    return MatchCounts(
        by_sequence=counts["sequence"], by_order=counts["order"], unmatched=counts["unmatched"]
    )

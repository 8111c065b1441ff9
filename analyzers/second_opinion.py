"""What the critical path over all ranks says bounds the step, beside the exposed time.

Exposed time describes; the critical path is causal: its shares are the elasticities of the step
time (models.md 5.3). Where both name another family, nobody should be sent after one of them alone.
Host time outside any recorded operator or call may hide waiting: where leaving it out would change
the answer, there is none.
"""

from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.blame import F64
from perfkit.analyzers.calls import POINT_TO_POINT
from perfkit.analyzers.critical_path import critical_path
from perfkit.analyzers.graph import StepGraph, join_pieces
from perfkit.analyzers.graph_pieces import PYTHON
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay_edit import scaled
from perfkit.analyzers.result_replay import SecondOpinion
from perfkit.analyzers.survey import RankSurvey
from perfkit.analyzers.whatif import COMMUNICATION, shares
from perfkit.trace.kinds import ROLLUP
from perfkit.trace.model import I64
from perfkit.units import percent

MOST_DIFFERENCE = 0.05
"""A class of the path's steps may differ from all steps by this share."""
_FAMILY = {c.key: family for family, classes in ROLLUP.items() for c in classes} | {PYTHON: "host"}


def replay_graph(surveys: Mapping[int, RankSurvey], world_size: int) -> StepGraph | Refusal:
    """Join the pieces that the surveys cut; refuse what does not reproduce the run."""
    absent = world_size - len(surveys)
    if absent > 0:
        return Refusal(
            reason=f"{absent} of {world_size} ranks have no trace here",
            remedy="give perfkit the traces of all ranks",
        )
    pieces = []
    for survey in surveys.values():
        if isinstance(survey.piece, Refusal):
            return survey.piece
        pieces.append(survey.piece)
    if len({piece.steps for piece in pieces}) != 1:
        return Refusal(
            reason="the ranks captured different steps", remedy="profile the same window on all"
        )
    calls = {rank: own.calls for rank, own in surveys.items()}
    domains = {rank: own.clock_domain for rank, own in surveys.items()}
    graph = join_pieces(pieces, calls, domains, world_size)
    if isinstance(graph, Refusal) and any(
        op in POINT_TO_POINT for c in calls.values() for op in c.op
    ):
        return Refusal(
            reason="a run with sends and receives between its ranks could not be replayed: "
            f"{graph.reason}",
            remedy="the budget, the blame and the bubble need no replay",
        )
    if isinstance(graph, StepGraph) and graph.unmatched:
        return Refusal(
            reason=f"{graph.unmatched} transfers could not be matched across ranks",
            remedy="capture with perfkit profile, which records sequence numbers",
        )
    return graph


def second_opinion(graph: StepGraph | Refusal, dominant: str | None) -> SecondOpinion:
    """Compare the critical path with the family that leads by exposed time after blame."""
    if isinstance(graph, Refusal):
        return SecondOpinion(refused=str(graph))
    by_class = shares(graph, graph.plan, graph.base, graph.plan.unchanged)
    families = _families(by_class)
    leader = max(families, key=lambda f: families[f])
    recorded = _families({k: share for k, share in by_class.items() if k != PYTHON})
    if max(recorded, key=lambda f: recorded[f]) != leader:
        return SecondOpinion(
            steps=graph.steps,
            replay_error=graph.replay_error,
            refused=f"{percent(by_class[PYTHON])} of the critical path is host time in which "
            "nothing was recorded; it may hide waiting",
        )
    by_rank = critical_path(graph.plan, graph.base).by_rank_ns
    whole = sum(by_rank.values())
    return SecondOpinion(
        steps=graph.steps,
        replay_error=graph.replay_error,
        shares=by_class,
        rollup=families,
        ranks={str(rank): ns / whole for rank, ns in sorted(by_rank.items())} if whole else {},
        dominant=leader,
        agrees=leader == dominant if dominant is not None else None,
    )


def is_typical(graph: StepGraph | Refusal, steps: I64, charged_ns: F64) -> bool:
    """Whether the few steps of the path spend their time as all analysed steps do.

    charged_ns: (steps, classes), after blame. A checkpoint every ten steps may be in neither.
    """
    if isinstance(graph, Refusal) or not charged_ns.sum():
        return True
    inside = np.isin(steps, graph.steps)
    if not charged_ns[inside].sum():
        return False
    mine, whole = charged_ns[inside].sum(axis=0), charged_ns.sum(axis=0)
    difference = mine / mine.sum() - whole / whole.sum()
    return bool(np.abs(difference).max() <= MOST_DIFFERENCE)


def _families(by_class: Mapping[str, float]) -> dict[str, float]:
    families = dict.fromkeys(ROLLUP, 0.0)
    for key, share in by_class.items():
        families[_FAMILY[key]] += share
    return families


def ideal_network_ratio(graph: StepGraph) -> float:
    """Return the replayed step without any transfer time over the unmodified replay."""
    work = scaled(graph.plan.graph, graph.plan.unchanged, COMMUNICATION, 0.0)
    return graph.period_ns(graph.plan.run(work)) / graph.period_ns(graph.base)

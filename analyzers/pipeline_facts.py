"""Which pipeline schedule a run uses, and how much of a step is bubble."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import POINT_TO_POINT
from perfkit.analyzers.join import Joined
from perfkit.analyzers.pipeline_passes import NamedPass, chain, passes_by_transfers
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.survey import RankSurvey
from perfkit.roofline.pipeline import ZB_H1, Bubble, PassTimes, Shape, bubble
from perfkit.roofline.schedule_recognition import ZB_INTERLEAVED, Recognised, recognise
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import NONE
from perfkit.units import percent

MOST_MATCHED = 0.95
BY_NAMES, BY_TRANSFERS = "names of passes", "sends and receives"
_NAMES = {
    "naive": "one micro-batch after the other",
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved": "interleaved 1F1B",
    "zb-h1": "zero-bubble (ZB-H1)",
    "zb-interleaved": "interleaved zero-bubble",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """The passes of one step, by stage, and which rank runs which stage."""

    ranks: tuple[int, ...]
    passes: Mapping[int, tuple[str, ...]]
    source: str


def pipeline_facts(surveys: Mapping[int, RankSurvey], joined: Joined) -> PipelineFacts | None:
    """Recognise the schedule in the middle one of the analysed steps; None without a pipeline."""
    steps = joined.steps.tolist()
    if not steps:
        return None
    seen = _observe(surveys, joined, steps[len(steps) // 2])
    if seen is None or len(seen.ranks) < 2:
        return None
    found = recognise(seen.passes, len(seen.ranks))
    chunks = next((c for n, c in found.candidates if n == found.schedule), None)
    formula = _formula(found, len(seen.ranks), chunks or 1)
    spent = {c: _total(joined, seen.ranks, c) for c in (TimeClass.PIPE_BUBBLE, TimeClass.COMPUTE)}
    whole = sum(int(joined.tables[r].sum()) for r in seen.ranks if r in joined.tables)
    lost, busy = spent[TimeClass.PIPE_BUBBLE], spent[TimeClass.COMPUTE]
    present = sum(r in joined.tables for r in seen.ranks)
    told = peers_known(joined)
    over_total = (lost / whole if whole else 0.0) if told else None
    return PipelineFacts(
        stages=len(seen.ranks),
        ranks=seen.ranks,
        schedule=found.schedule,
        candidates=tuple(name for name, _ in found.candidates),
        micro_batches=found.micro_batches,
        chunks=chunks,
        exact=found.exact,
        source=seen.source,
        reason=found.reason,
        bubble_ms=lost / 1e6 / len(steps) / max(present, 1) if told else None,
        bubble_over_total=over_total,
        bubble_over_ideal=lost / busy if told and busy else None,
        formula_over_total=formula.over_total if formula else None,
        formula_over_ideal=formula.over_ideal if formula else None,
        sentence=_sentence(found, len(seen.ranks), over_total, formula),
    )


def peers_known(joined: Joined) -> bool:
    """Tell whether most sends and receives of the analysed steps met their other end.

    Where the capture does not say who sends to whom, as gloo's does not beyond two ranks, waiting
    cannot be told from transfer, and a bubble of zero would be no measurement.
    """
    matched = calls = 0
    for view in joined.views.values():
        inside = np.isin(view.calls.step, view.windows.step)
        between = np.array([op in POINT_TO_POINT for op in view.calls.op], dtype=np.bool_)
        calls += int((inside & between).sum())
        matched += int((inside & between & view.split.matched).sum())
    return matched >= MOST_MATCHED * calls


def _total(joined: Joined, ranks: tuple[int, ...], time_class: TimeClass) -> int:
    tables = (joined.tables[r] for r in ranks if r in joined.tables)
    return sum(int(table[:, time_class].sum()) for table in tables)


def _observe(surveys: Mapping[int, RankSurvey], joined: Joined, step: int) -> _Seen | None:
    calls = {rank: view.calls for rank, view in joined.views.items()}
    ranks = chain(calls, step)
    named = {rank: own.passes.get(step, ()) for rank, own in surveys.items()}
    named = {rank: passes for rank, passes in named.items() if passes}
    if named:
        return _by_names(named, ranks)
    moved = any(op in POINT_TO_POINT for table in calls.values() for op in table.op)
    if not moved or not ranks:
        return None
    stages = {s: rank for s, rank in enumerate(ranks) if rank in calls}
    passes = {s: passes_by_transfers(calls[rank], step, ranks, s) for s, rank in stages.items()}
    return _Seen(ranks, passes, BY_TRANSFERS)


def _by_names(named: Mapping[int, tuple[NamedPass, ...]], ranks: tuple[int, ...]) -> _Seen | None:
    """Order ranks by the chain of transfers, else by the stages that the names hold."""
    if not ranks:
        first = {rank: min(p.stage for p in passes) for rank, passes in named.items()}
        if NONE in first.values() or len(set(first.values())) < len(first):
            return None  # data parallel copies of a pipeline, or no stage is named
        ranks = tuple(sorted(first, key=lambda rank: first[rank]))
    passes = {
        stage: tuple(one.kind for one in named[rank])
        for stage, rank in enumerate(ranks)
        if rank in named
    }
    return _Seen(ranks, passes, BY_NAMES)


def _formula(found: Recognised, stages: int, chunks: int) -> Bubble | None:
    """Return the published bubble; of these schedules it does not depend on the times of passes."""
    if found.schedule in {None, ZB_H1, ZB_INTERLEAVED} or found.micro_batches is None:
        return None  # theirs depend on how long weight passes take
    shape = Shape(stages=stages, micro_batches=found.micro_batches, chunks=chunks)
    return bubble(found.schedule, shape, PassTimes(forward_s=1.0, backward_s=2.0))


def _sentence(
    found: Recognised, stages: int, over_total: float | None, formula: Bubble | None
) -> str:
    text = f"{stages} stages"
    if found.schedule is None:
        text += f", schedule not recognised ({found.reason})"
    else:
        text += f", {_NAMES[found.schedule]}, {found.micro_batches} micro-batches"
    if over_total is None:
        text += ": bubble cannot be told, as the capture does not say who sends to whom"
    else:
        text += f": bubble {percent(over_total)} of the step"
    if formula is not None:
        text += f", {percent(formula.over_total)} by the schedule's formula"
    return text

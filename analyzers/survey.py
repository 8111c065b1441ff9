"""All that one rank's trace is read for, in a form small enough to keep while other ranks load."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from perfkit.analyzers.attribution import attribute, unrecorded_classes
from perfkit.analyzers.calls import Calls, collect_calls
from perfkit.analyzers.graph import MOST_TASKS, own_steps, rank_piece
from perfkit.analyzers.graph_pieces import Piece
from perfkit.analyzers.host_state import ProcessPauses
from perfkit.analyzers.memory import memory_of
from perfkit.analyzers.operators import NamedTime, rank_operators
from perfkit.analyzers.pipeline_passes import NamedPass, named_passes
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import RankMemory
from perfkit.analyzers.shelf import RANKS_IN_MEMORY, Kept, Shelf
from perfkit.analyzers.timeline import LaneMarks, collect_marks
from perfkit.analyzers.trace_counts import TraceCounts, count_facts
from perfkit.analyzers.trace_flaws import trace_flaws
from perfkit.analyzers.windows import Windows, step_windows
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.of_run import PlacedRank, misfit, place_rank
from perfkit.roofline.threads import ceilings_of
from perfkit.trace.intervals import Partition
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import DeviceCounter, DeviceFacts, Issue, RankTrace, StepLines

MOST_TASKS_OF_MANY = 500_000
"""The replay graph of many ranks is limited further: it is held in one process as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What grows with a rank's events, not only with its steps."""

    parts: Partition
    marks: Mapping[int, LaneMarks]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSurvey:
    """One rank's steps, classed as far as one rank can tell, and its collective calls."""

    rank: int
    world_size: int
    device_kind: str
    device: DeviceFacts | None
    node: str
    clock_domain: str
    step_source: str
    windows: Windows
    detail: Kept[Detail]
    calls: Calls
    unrecorded: frozenset[TimeClass]
    operators: tuple[NamedTime, ...]
    counts: TraceCounts
    issues: tuple[Issue, ...]
    sources: tuple[Path, ...]
    placed: PlacedRank | None
    misfit: str  # why the ceilings that were given are not of this device
    memory: RankMemory | None
    piece: Piece | Refusal  # its part of the replay graph
    passes: Mapping[int, tuple[NamedPass, ...]]  # by step; of pipelines that name them
    counters: tuple[DeviceCounter, ...]

    @property
    def parts(self) -> Partition:
        """The rank's time by class, as far as one rank can tell; loaded at each call."""
        return self.detail.get().parts

    @property
    def marks(self) -> Mapping[int, LaneMarks]:
        """What a timeline draws, by step; loaded at each call."""
        return self.detail.get().marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a rank cannot say of itself: measured ceilings, and the node of every rank."""

    ceilings: Ceilings | None = None
    threads: Mapping[int, int] = field(default_factory=dict)  # that ranks computed with
    unfit: str = ""  # why the ceilings are not of the machines that the run recorded
    nodes: Mapping[int, str] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)


def survey_rank(
    trace: RankTrace, lines: StepLines, around: Surroundings | None = None
) -> RankSurvey:
    """Read one rank's trace once, for everything that the analysis needs of it."""
    around = around or Surroundings()
    reason = around.unfit or misfit(around.ceilings, trace)
    ceilings = None if reason else ceilings_of(around.ceilings, around.threads, trace.rank)
    if len(lines.index):
        # The step lines record every collection and compilation, whatever the trace holds.
        trace = replace(trace, recorders=trace.recorders | {"gc", "compile"})
    windows = _without_eval(step_windows(trace), lines)
    pauses = ProcessPauses.of(lines)
    device = next((d for d in trace.devices if d.index == trace.device), None)
    detail = Detail(parts=attribute(trace, windows, pauses), marks=collect_marks(trace, windows))
    return RankSurvey(
        rank=trace.rank,
        world_size=trace.world_size,
        device_kind=trace.device_kind,
        device=device,
        node=trace.node,
        clock_domain=trace.clock_domain,
        step_source=trace.steps.source,
        windows=windows,
        detail=around.shelf.keep(f"rank{trace.rank}", detail),
        calls=collect_calls(trace),
        unrecorded=unrecorded_classes(trace, on_device=windows.on_device),
        operators=rank_operators(trace, windows),
        counts=count_facts(trace, windows),
        issues=(*trace.issues, *trace_flaws(trace, windows)),
        sources=trace.sources,
        placed=place_rank(trace, lines, ceilings, around.nodes),
        misfit=reason,
        memory=memory_of(trace, lines.memory),
        piece=_piece(trace, lines),
        passes=named_passes(trace),
        counters=trace.counters,
    )


def _piece(trace: RankTrace, lines: StepLines) -> Piece | Refusal:
    steps = own_steps(trace, lines)
    if isinstance(steps, Refusal):
        return steps
    piece = rank_piece(trace, lines, steps)
    most = MOST_TASKS if trace.world_size <= RANKS_IN_MEMORY else MOST_TASKS_OF_MANY
    if len(piece.start_ns) > most // max(trace.world_size, 1):
        return Refusal(
            reason=f"the captured steps hold more than {most:,} tasks on all ranks",
            remedy="profile fewer steps or ranks",
        )
    return piece


def _without_eval(windows: Windows, lines: StepLines) -> Windows:
    """Mark the steps that the step lines know to hold an evaluation."""
    known = lines.index[lines.has_eval]
    return replace(windows, has_eval=windows.has_eval | np.isin(windows.step, known))

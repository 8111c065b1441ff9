"""What each group of ranks exchanges per step, and in which pass: what parallelism is told from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perfkit.roofline.dtypes import element_type
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, Bool, Collectives, Events, RankTrace


class Phase(StrEnum):
    """The part of a step in which a collective was called."""

    FORWARD = "forward"
    BACKWARD = "backward"
    AFTER = "after"  # between a backward pass and the next forward pass: optimizer, metrics
    UNKNOWN = "unknown"  # the capture does not tie the transfer to its call


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One operation of a group in one pass; sums per step."""

    collective: str
    phase: Phase
    calls: float
    size_bytes: float  # S of nccl-tests
    elements: float  # of the whole array that S counts; 0 where the type is not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTraffic:
    """All exchanges of one group of at least two ranks, most bytes first."""

    group: str
    ranks: tuple[int, ...]
    nodes: int | None  # None: the capture does not say where they run
    exchanges: tuple[Exchange, ...]

    def elements(self, collective: str, *phases: Phase) -> float:
        """Elements per step of that operation, in those passes or in all."""
        return sum(
            e.elements
            for e in self.exchanges
            if e.collective == collective and (not phases or e.phase in phases)
        )

    def item_bytes(self, *collectives: str) -> float | None:
        """Mean bytes of an element of those operations; None where types are not recorded."""
        own = [e for e in self.exchanges if e.collective in collectives and e.elements]
        elements = sum(e.elements for e in own)
        return sum(e.size_bytes for e in own) / elements if elements else None

    @property
    def phases_known(self) -> bool:
        """Whether at least one exchange is tied to a pass."""
        return any(e.phase != Phase.UNKNOWN for e in self.exchanges)


def group_traffic(
    trace: RankTrace, steps: Sequence[int], node_of: Mapping[int, str]
) -> tuple[GroupTraffic, ...]:
    """Exchanges of one rank's groups in these steps; transfers of unknown size are left out."""
    rows, wanted = trace.collectives, frozenset(steps)
    in_step = trace.events.step[rows.event] if len(rows) else np.empty(0, np.int32)
    phases = _phases(trace.events, rows)
    sums: dict[int, dict[tuple[str, Phase], list[float]]] = {}
    for row in range(len(rows)):
        if int(in_step[row]) not in wanted or rows.size_bytes[row] <= 0:
            continue
        kind = element_type(rows.dtype[row]) if rows.dtype[row] else None
        size = int(rows.size_bytes[row])
        own = sums.setdefault(int(rows.group[row]), {})
        total = own.setdefault((rows.op[row], phases[row]), [0.0, 0.0, 0.0])
        total[0] += 1
        total[1] += size
        total[2] += size / kind.item_bytes if kind else 0.0
    found = [
        _traffic(trace, group, own, max(len(wanted), 1), node_of) for group, own in sums.items()
    ]
    known = [traffic for traffic in found if len(traffic.ranks) > 1]
    return tuple(sorted(known, key=lambda t: (-sum(e.size_bytes for e in t.exchanges), t.group)))


def _traffic(
    trace: RankTrace,
    group: int,
    sums: Mapping[tuple[str, Phase], Sequence[float]],
    steps: int,
    node_of: Mapping[int, str],
) -> GroupTraffic:
    ranks, name, _ = members(trace, group)
    exchanges = [
        Exchange(
            collective=op,
            phase=phase,
            calls=calls / steps,
            size_bytes=size / steps,
            elements=elements / steps,
        )
        for (op, phase), (calls, size, elements) in sums.items()
    ]
    return GroupTraffic(
        group=name,
        ranks=ranks,
        nodes=nodes_spanned(ranks, node_of),
        exchanges=tuple(sorted(exchanges, key=lambda e: (-e.size_bytes, e.collective, e.phase))),
    )


def members(trace: RankTrace, group: int) -> tuple[tuple[int, ...], str, str]:
    """Ranks and name of a group; all ranks, and said so, where the capture does not tell."""
    if group != NONE and trace.groups[group].ranks:
        return trace.groups[group].ranks, trace.groups[group].name, ""
    name = trace.groups[group].name if group != NONE else ""
    world = tuple(range(max(trace.world_size, 1)))
    return world, name, "the group's ranks are not recorded: all ranks assumed"


def nodes_spanned(ranks: Sequence[int], node_of: Mapping[int, str]) -> int | None:
    """On how many nodes these ranks run; None if the node of one of them is not known."""
    known = {node_of.get(rank) for rank in ranks}
    return None if None in known else len(known)


def _phases(events: Events, rows: Collectives) -> list[Phase]:
    """The pass of each collective, by where the call that enqueued it lies among operators.

    Operators of a backward pass and operators that record for one (the forward pass; optimizers
    and evaluations do not) mark the passes. Between two backward operators is the backward pass.
    """
    backward = np.flatnonzero(events.backward)
    recording = (events.kind == Kind.OP) & ~events.backward & (events.sequence >= 0)
    forward = np.flatnonzero(recording)
    at = np.concatenate((events.start_ns[backward], events.start_ns[forward]))
    is_backward = np.repeat([True, False], [len(backward), len(forward)])
    order = np.argsort(at, kind="stable")
    marks = _Marks(at[order], is_backward[order])
    return [_phase(events, int(events.op[event]), marks) for event in rows.event.tolist()]


@dataclass(frozen=True, slots=True)
class _Marks:
    """Starts of operators that belong to a pass, in order, and whether it is the backward pass."""

    at_ns: I64
    is_backward: Bool


def _phase(events: Events, call: int, marks: _Marks) -> Phase:
    if call == NONE:
        return Phase.UNKNOWN
    if events.backward[call]:
        return Phase.BACKWARD
    place = int(np.searchsorted(marks.at_ns, events.start_ns[call]))
    before = bool(marks.is_backward[place - 1]) if place else None
    after = bool(marks.is_backward[place]) if place < len(marks.at_ns) else None
    if before and after:
        return Phase.BACKWARD
    if before is False and after is not None:
        return Phase.FORWARD
    return Phase.AFTER

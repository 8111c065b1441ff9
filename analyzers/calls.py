"""The collective calls of one rank, as far as matching needs them: which, when, how much."""

from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.attribution import comm_rows
from perfkit.analyzers.windows import is_device_work
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, RankTrace

SYMMETRIC = frozenset({"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier"})
"""Operations that nobody can leave before everybody has arrived."""
P2P_ENDS = ("send", "recv")
POINT_TO_POINT = frozenset(P2P_ENDS)


@dataclass(frozen=True, slots=True)
class Group:
    """A communicator as ranks agree on it; `ranks` is () where the capture does not say."""

    name: str
    description: str
    ranks: tuple[int, ...]

    @property
    def title(self) -> str:
        """What a reader sees: the name, with the description where it says more."""
        plain = self.description in {"", "undefined", self.name}
        return self.name if plain else f"{self.name} ({self.description})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """One row per transfer of a rank, in order of start; `group` is None where unknown."""

    start_ns: I64
    end_ns: I64
    step: I64
    sequence: I64
    in_elements: I64
    out_elements: I64
    size_bytes: I64
    source: I64
    target: I64
    stream: I64  # ordinal of the stream among the rank's communicating streams; 0 on the host
    group: tuple[Group | None, ...]
    op: tuple[str, ...]
    dtype: tuple[str, ...]
    on_device: bool
    one_group: bool  # the rank is in one group of several ranks at most, as far as is known

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def duration_ns(self) -> I64:
        """End less start."""
        return self.end_ns - self.start_ns


def collect_calls(trace: RankTrace) -> Calls:
    """Join each transfer with its facts; a transfer without facts has no group and no operation."""
    events, facts = trace.events, trace.collectives
    on_device = bool(is_device_work(events).any())
    rows = np.flatnonzero(comm_rows(events, on_device=on_device))
    fact = np.full(len(events), NONE, dtype=np.int64)
    fact[facts.event] = np.arange(len(facts))
    fact = fact[rows]
    groups = tuple(Group(g.name, g.description, tuple(sorted(g.ranks))) for g in trace.groups)

    def column(values: object) -> I64:
        known = np.append(np.asarray(values, dtype=np.int64), NONE)
        return known[fact]  # NONE picks the appended last entry

    group_row = column(facts.group)
    op = tuple(
        facts.op[f] if f >= 0 else _op_of(trace, int(row))
        for f, row in zip(fact.tolist(), rows, strict=True)
    )
    source, target = _ends(trace, op, column(facts.source_rank), column(facts.target_rank))
    return Calls(
        start_ns=events.start_ns[rows],
        end_ns=events.end_ns[rows],
        step=events.step[rows].astype(np.int64),
        sequence=column(facts.sequence),
        in_elements=column(facts.in_elements),
        out_elements=column(facts.out_elements),
        size_bytes=column(facts.size_bytes),
        source=source,
        target=target,
        stream=_streams(events.thread[rows]) if on_device else np.zeros(len(rows), dtype=np.int64),
        group=tuple(groups[g] if g >= 0 else None for g in group_row.tolist()),
        op=op,
        dtype=tuple(facts.dtype[f] if f >= 0 else "" for f in fact.tolist()),
        on_device=on_device,
        one_group=len({g.ranks for g in groups if len(g.ranks) != 1}) <= 1,
    )


def _ends(trace: RankTrace, op: tuple[str, ...], source: I64, target: I64) -> tuple[I64, I64]:
    """Complete who sends to whom: this rank is one end, and of two ranks the other is the other."""
    sends, receives = (np.array([o == name for o in op], dtype=np.bool_) for name in P2P_ENDS)
    source = np.where(sends & (source == NONE), trace.rank, source)
    target = np.where(receives & (target == NONE), trace.rank, target)
    if trace.world_size == 2:
        target = np.where(sends & (target == NONE), 1 - trace.rank, target)
        source = np.where(receives & (source == NONE), 1 - trace.rank, source)
    return source, target


def _streams(stream: I64) -> I64:
    return np.unique(stream, return_inverse=True)[1].astype(np.int64)


def _op_of(trace: RankTrace, row: int) -> str:
    return "peer_copy" if trace.events.kind[row] == Kind.MEMCPY_P2P else ""

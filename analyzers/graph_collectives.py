"""The collectives of a replay graph: which tasks start together, and how long each then takes.

The members of a collective start together, when the last is ready, and each takes the time from
the last start to its own end (on aligned clocks; else the shortest stay of any rank). A send and
its receive are posted and waited for later: gloo carries them out when both have been posted, and
closes the record of each when its rank waits for it. The transfer is over when the first of the two
records closes; what a sender waits beyond that is a delay without a recorded cause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import POINT_TO_POINT, Calls
from perfkit.analyzers.graph_pieces import Piece
from perfkit.analyzers.matching import Instance
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a matched collective moves: for costs of another network."""

    op: str
    ranks: int
    size_bytes: int  # S of nccl-tests; NONE unknown


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the graph is put together from."""

    pieces: Sequence[Piece]
    calls: Mapping[int, Calls]
    instances: Sequence[Instance]
    offsets_ns: Mapping[int, int | None]
    on_device: bool


class Collectives:
    """The super-nodes: which tasks start together, and how long each then takes."""

    def __init__(self, parts: Parts, base: I64) -> None:
        self.base, self.pieces, self.calls = base, parts.pieces, parts.calls
        self.duration_ns = np.concatenate([p.duration_ns for p in parts.pieces])
        self.kind = np.concatenate([p.kind for p in parts.pieces])
        self.number = np.full(int(base[-1]), NONE, np.int64)
        self.transfers: list[Transfer] = []
        self.lag_ns = [p.edge_lag_ns.copy() for p in parts.pieces]
        self.sends = {
            int(base[i]) + task: (i, edge, idle)
            for i, p in enumerate(parts.pieces)
            for task, edge, idle in p.sends.tolist()
        }
        self.waits: dict[tuple[int, int], int] = {}  # piece, who goes on -> how late
        self.channels: dict[tuple[int, int], int] = {}  # source, target -> end of its last transfer
        task_of = {
            (piece.rank, int(call)): int(base[i]) + task
            for i, piece in enumerate(parts.pieces)
            for task, call in enumerate(piece.call.tolist())
            if call != NONE
        }
        for instance in parts.instances:
            members = [(m, task_of[m]) for m in instance.members if m in task_of]
            if len(members) == len(instance.members):
                self._join(parts, instance, [task for _, task in members])
        step = np.concatenate([p.step for p in parts.pieces])
        communicates = self.kind == int(TimeClass.COMM_UNMATCHED)
        # What ran before the first counted step's end hardly moves the period of the others.
        counted = step >= 1
        self.unmatched = int(np.count_nonzero(communicates & counted))

    def unpaired(self) -> tuple[int, int]:
        """Return how many sends and receives did not meet, and the most a rank spent in those."""
        missed, most_ns = 0, 0
        for piece, begin in zip(self.pieces, self.base.tolist(), strict=False):
            spent_ns = 0
            for task in np.flatnonzero(piece.call != NONE).tolist():
                op = self.calls[piece.rank].op[piece.call[task]]
                if op in POINT_TO_POINT and self.number[begin + task] == NONE:
                    missed += 1
                    spent_ns += int(piece.duration_ns[task]) if op == "recv" else 0
            most_ns = max(most_ns, spent_ns)
        return missed, most_ns

    def _join(self, parts: Parts, instance: Instance, tasks: list[int]) -> None:
        calls = parts.calls
        stays = self._times(parts, instance, tasks)
        rank, row = instance.members[0]
        self.number[tasks] = len(self.transfers)
        self.duration_ns[tasks] = stays
        self.kind[tasks] = int(TimeClass.COMM_TRANSFER)
        self.transfers.append(
            Transfer(
                op=instance.op,
                ranks=len(instance.members),
                size_bytes=int(calls[rank].size_bytes[row]),
            )
        )

    def _times(self, parts: Parts, instance: Instance, tasks: Sequence[int]) -> list[int]:
        """Return each member's time from the last start; clock-free where clocks are unknown."""
        calls, offsets = parts.calls, parts.offsets_ns
        stays = [int(calls[r].duration_ns[row]) for r, row in instance.members]
        known = [offsets.get(r) for r, _ in instance.members]
        if any(offset is None for offset in known):
            return [min(stays)] * len(stays)
        starts, ends = [], []
        for (rank, row), offset in zip(instance.members, known, strict=True):
            assert offset is not None
            starts.append(int(calls[rank].start_ns[row]) + offset)
            ends.append(int(calls[rank].end_ns[row]) + offset)
        begin = max(starts)
        if instance.op in POINT_TO_POINT and not parts.on_device:
            over = min(ends)
            begin = self._behind_others(parts, instance, begin, over)
            for place, (rank, row) in enumerate(instance.members):
                if calls[rank].op[row] == "send":  # over when it arrived, whoever waits for it
                    self._wait_longer(tasks[place], ends[place] - over)
                    ends[place] = over
        return [max(0, end - begin) for end in ends]

    def _wait_longer(self, task: int, late_ns: int) -> None:
        """Let the thread that waits for a send go on as late as it did: why is not recorded."""
        if task in self.sends and late_ns > 0:
            piece, edge, idle_ns = self.sends[task]
            late_ns = min(late_ns, idle_ns)
            self.lag_ns[piece][edge] = late_ns
            wait = piece, int(self.pieces[piece].edge_target[edge])
            self.waits[wait] = max(self.waits.get(wait, 0), late_ns)

    def waited_ns(self) -> dict[int, int]:
        """Return by rank how long it waited for sends that had arrived."""
        found: dict[int, int] = {}
        for (piece, _), late_ns in self.waits.items():
            rank = self.pieces[piece].rank
            found[rank] = found.get(rank, 0) + late_ns
        return found

    def _behind_others(self, parts: Parts, instance: Instance, begin: int, end: int) -> int:
        """Return when a transfer could begin, behind those posted before it to the same rank."""
        rank, row = instance.members[0]
        table = parts.calls[rank]
        channel = int(table.source[row]), int(table.target[row])
        begin = max(begin, self.channels.get(channel, begin))
        self.channels[channel] = max(begin, end)
        return begin

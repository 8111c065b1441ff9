"""The order of forward and backward passes on each stage of a pipeline.

torch.distributed.pipelining names its passes ("Forward 3", "PP:1B0"). Where it does not (its plain
1F1B), the order follows from the transfers: a stage sends to the next one after a forward and to
the one before after a backward; the first stage's backwards and the last one's forwards begin with
a receive. Of a send and a receive posted together, the send ends a pass and the receive begins one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.calls import POINT_TO_POINT, Calls
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, RankTrace

_NAMED = re.compile(r"^(?:(Forward|Backward) \d+|PP:(\d+)([FBIW])\d+)$")
_KINDS = {"Forward": "F", "Backward": "B", "F": "F", "B": "B", "I": "B", "W": "W"}
TOGETHER_NS = 200_000
"""Transfers posted within this time count as posted together."""


@dataclass(frozen=True, slots=True)
class NamedPass:
    """One pass as the framework named it; stage is NONE where the name does not say."""

    stage: int
    kind: str  # "F", "B" or "W"


def named_passes(trace: RankTrace) -> dict[int, tuple[NamedPass, ...]]:
    """Return the named passes of each step, in order."""
    events = trace.events
    wanted = {i: m for i, n in enumerate(events.names) if (m := _NAMED.match(n))}
    rows = np.flatnonzero((events.kind == Kind.ANNOTATION) & np.isin(events.name, list(wanted)))
    found: dict[int, list[NamedPass]] = {}
    for step, number in zip(events.step[rows].tolist(), events.name[rows].tolist(), strict=True):
        plain, stage, kind = wanted[number].groups()
        one = NamedPass(NONE if plain else int(stage), _KINDS[plain or kind])
        found.setdefault(step, []).append(one)
    found.pop(NONE, None)
    return {step: tuple(passes) for step, passes in found.items()}


def chain(calls: Mapping[int, Calls], step: int) -> tuple[int, ...]:
    """Return the ranks of the one pipeline of the run, first stage first; () where there is none.

    The first stage is the end of the chain that sends before it receives anything.
    """
    peers: dict[int, set[int]] = {}
    for table in calls.values():
        for row in _transfers(table, step):
            source, target = int(table.source[row]), int(table.target[row])
            if NONE not in (source, target):
                peers.setdefault(source, set()).add(target)
                peers.setdefault(target, set()).add(source)
    ends = sorted(rank for rank, others in peers.items() if len(others) == 1)
    if len(ends) != 2 or any(len(others) > 2 for others in peers.values()):
        return ()
    ends.sort(key=lambda rank: not _sends_first(calls.get(rank), step))
    order, before = [ends[0]], NONE
    while True:
        further = peers[order[-1]] - {before}
        if not further:
            break
        before = order[-1]
        order.append(further.pop())
    return tuple(order) if len(order) == len(peers) else ()


def passes_by_transfers(
    calls: Calls, step: int, ranks: Sequence[int], stage: int
) -> tuple[str, ...]:
    """Return a stage's passes of one step by what it sends and receives."""
    ahead = ranks[stage + 1] if stage + 1 < len(ranks) else NONE
    behind = ranks[stage - 1] if stage else NONE
    marks: list[tuple[int, bool, str]] = []
    for row in _transfers(calls, step):
        start, sends = int(calls.start_ns[row]), calls.op[row] == "send"
        peer = int(calls.target[row] if sends else calls.source[row])
        if sends:
            marks.append((start, True, "F" if peer == ahead else "B"))
        elif (peer == ahead and behind == NONE) or (peer == behind and ahead == NONE):
            marks.append((start, False, "B" if peer == ahead else "F"))
    marks.sort()
    _sends_before_receives(marks)
    return tuple(kind for _, _, kind in marks)


def _sends_before_receives(marks: list[tuple[int, bool, str]]) -> None:
    """Put a send before the receive that was posted with it."""
    for place in range(len(marks) - 1):
        (start, sends, _), (then, then_sends, _) = marks[place], marks[place + 1]
        if not sends and then_sends and then - start <= TOGETHER_NS:
            marks[place], marks[place + 1] = marks[place + 1], marks[place]


def _transfers(calls: Calls, step: int) -> list[int]:
    rows = np.flatnonzero(calls.step == step).tolist()
    return [row for row in rows if calls.op[row] in POINT_TO_POINT]


def _sends_first(calls: Calls | None, step: int) -> bool:
    rows = _transfers(calls, step) if calls is not None else []
    return calls is not None and bool(rows) and calls.op[rows[0]] == "send"

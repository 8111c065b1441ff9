"""What a rank sends in a step: its collectives in order, and how long the link was busy with them.

Transfers that are under way at the same time share the link (gloo runs two at a time), so that
their durations must not be added: a *burst* is a chain of transfers without a gap, its time counts
once. Waiting for a late rank is in the burst of every rank but the late one's: the shortest over
the ranks is the transfer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.alphabeta import Observation
from perfkit.analyzers.network_fit import RING_OPERATIONS
from perfkit.analyzers.refusal import Refusal
from perfkit.trace.model import NONE, ProcessGroup, RankTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One collective of a step. `ready_s` counts from the first message that is ready."""

    op: str
    size_bytes: int
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Transfers of one step without a gap between them."""

    step: int
    number: int  # in its step
    calls: tuple[tuple[str, int], ...]  # operation and bytes of each
    busy_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTraffic:
    """What one rank's trace says."""

    ranks: int
    messages: tuple[Message, ...] | Refusal
    bursts: tuple[Burst, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the traces of a run say: the messages of a usual step, and pure transfers."""

    messages: tuple[Message, ...] | Refusal
    transfers: tuple[Observation, ...]
    busy_ms_per_step: float


def traffic_of(trace: RankTrace) -> RankTraffic:
    """Return what a rank sent in its whole steps.

    A message is ready when the rank asks for the transfer: at the call that enqueues it on a CPU,
    at the start of the kernel on an accelerator (where it may have queued before, so that overlap
    is underestimated).
    """
    calls, events = trace.collectives, trace.events
    steps: list[list[Message]] = []
    bursts: list[Burst] = []
    for step in trace.steps.index[trace.steps.complete & ~trace.steps.has_eval].tolist():
        inside = np.flatnonzero(events.step[calls.event] == step).tolist()
        rows = [r for r in inside if calls.op[r] in RING_OPERATIONS and calls.size_bytes[r] > 0]
        steps.append(_messages(trace, rows))
        bursts += _bursts(trace, step, rows)
    own = _smaller_groups(trace)
    return RankTraffic(ranks=trace.world_size, messages=own or _usual(steps), bursts=tuple(bursts))


def _messages(trace: RankTrace, rows: Sequence[int]) -> list[Message]:
    calls = trace.collectives
    ready = sorted((_asked_ns(trace, int(calls.event[row])), row) for row in rows)
    return [
        Message(
            op=calls.op[row],
            size_bytes=int(calls.size_bytes[row]),
            ready_s=(at - ready[0][0]) / 1e9,
        )
        for at, row in ready
    ]


def _bursts(trace: RankTrace, step: int, rows: Sequence[int]) -> list[Burst]:
    calls, events = trace.collectives, trace.events
    found: list[Burst] = []
    inside: list[tuple[str, int]] = []
    begun = ended = 0
    for row in sorted(rows, key=lambda r: int(events.start_ns[calls.event[r]])):
        event = int(calls.event[row])
        start, end = int(events.start_ns[event]), int(events.end_ns[event])
        if inside and start > ended:
            found.append(_burst(step, found, inside, ended - begun))
            inside = []
        if not inside:
            begun = ended = start
        inside.append((calls.op[row], int(calls.size_bytes[row])))
        ended = max(ended, end)
    if inside:
        found.append(_burst(step, found, inside, ended - begun))
    return found


def _burst(
    step: int, before: Sequence[Burst], calls: Sequence[tuple[str, int]], busy_ns: int
) -> Burst:
    return Burst(step=step, number=len(before), calls=tuple(sorted(calls)), busy_ns=busy_ns)


def _smaller_groups(trace: RankTrace) -> Refusal | None:
    if all(len(own.ranks) in (0, trace.world_size) for own in _used_groups(trace)):
        return None
    return Refusal(
        reason="the ranks communicate in groups smaller than the job, as tensor, pipeline or "
        "hybrid sharding do, and the prediction knows data parallelism only",
        remedy="perfkit whatif RUN --ranks N replays such a run",
    )


def _used_groups(trace: RankTrace) -> list[ProcessGroup]:
    used = set(trace.collectives.group.tolist()) - {NONE}
    return [trace.groups[g] for g in sorted(used)]


def _asked_ns(trace: RankTrace, event: int) -> int:
    call = int(trace.events.op[event])
    asked = event if call == NONE or trace.device_kind != "cpu" else call
    return int(trace.events.start_ns[asked])


def _usual(steps: Sequence[Sequence[Message]]) -> tuple[Message, ...] | Refusal:
    """Return the messages that most steps have, ready at the median of their times."""
    shapes = [tuple((m.op, m.size_bytes) for m in step) for step in steps]
    if not shapes:
        return Refusal(reason="no whole step was profiled", remedy="profile with --window A:B")
    usual = max(set(shapes), key=lambda shape: (shapes.count(shape), shape))
    if not usual:
        return Refusal(reason="the profiled steps hold no collective over all ranks")
    like = [step for step, shape in zip(steps, shapes, strict=True) if shape == usual]
    ready = np.median([[m.ready_s for m in step] for step in like], axis=0)
    return tuple(
        Message(op=op, size_bytes=size, ready_s=float(at))
        for (op, size), at in zip(usual, ready.tolist(), strict=True)
    )


def join_traffic(ranks: Sequence[RankTraffic]) -> Traffic:
    """Join the ranks of a run: a burst that all ranks have alike took as long as on the last one.

    Bursts that hold different operations tell nothing of a single one and are left out.
    """
    seen: dict[tuple[int, int, tuple[tuple[str, int], ...]], list[int]] = {}
    for rank in ranks:
        for burst in rank.bursts:
            seen.setdefault((burst.step, burst.number, burst.calls), []).append(burst.busy_ns)
    whole = {key: min(ns) for key, ns in seen.items() if len(ns) == len(ranks)}
    transfers = [
        Observation(
            op=calls[0][0],
            ranks=ranks[0].ranks,
            size_bytes=sum(size for _, size in calls),
            transfer_s=ns / 1e9,
            calls=len(calls),
        )
        for (_, _, calls), ns in sorted(whole.items())
        if len({op for op, _ in calls}) == 1
    ]
    steps = {step for step, _, _ in whole}
    return Traffic(
        messages=ranks[0].messages,
        transfers=tuple(transfers),
        busy_ms_per_step=sum(whole.values()) / 1e6 / len(steps) if steps else 0.0,
    )

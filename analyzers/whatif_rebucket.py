"""Other gradient buckets, smaller or larger, where the capture tells when each gradient was ready.

A bucket is sent when its last gradient is ready on every rank and the buckets before it are done;
buckets take the captured time a byte, and the latency once each (models.md 5.5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, Schedule
from perfkit.analyzers.whatif import Setting
from perfkit.analyzers.whatif_transfers import steps_of
from perfkit.roofline.volumes import ddp_buckets
from perfkit.trace.intervals import total_ns, union

Lanes = Mapping[tuple[int, int], Sequence[int]]
"""(rank, place of the step) -> its all-reduces in order."""


@dataclass(frozen=True, slots=True)
class _Backward:
    """One backward pass of one rank: its gradients in order, and the transfers that carry them."""

    gradients: list[int]  # tasks
    sizes: list[int]
    transfers: list[int]  # tasks
    buckets: tuple[tuple[int, ...], ...]  # the gradients that each transfer carries


def rebucketed(setting: Setting, lanes: Lanes, bucket_bytes: int) -> Setting | Refusal:
    """Send the gradients in buckets of another size; the last transfer carries the new end."""
    if not lanes:
        return Refusal(reason="the captured steps hold no all-reduce of gradients in buckets")
    schedule = setting.plan.run(setting.work)
    duration = setting.work.duration_ns.copy()
    passes = {}
    for (rank, step), lane in lanes.items():
        found = _backward(setting, schedule, rank, step, lane)
        if isinstance(found, Refusal):
            return found
        passes[rank, step] = found
    sizes = {tuple(p.sizes) for p in passes.values()}
    if len(sizes) != 1:
        return Refusal(reason="the ranks' gradients were not ready in the same order")
    wanted = ddp_buckets(sizes.pop(), bucket_bytes=bucket_bytes, first_bucket_bytes=bucket_bytes)
    if all(p.buckets == wanted for p in passes.values()):
        return Refusal(reason="the captured buckets are of that size already")
    for (_, step), own in passes.items():
        others = [p for (_, s), p in passes.items() if s == step]
        ready = np.max([schedule.end_ns[p.gradients] for p in others], axis=0)
        duration[own.transfers] = 0.0
        duration[own.transfers[-1]] = _sending_ns(setting, own, wanted, ready)
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _backward(
    setting: Setting, schedule: Schedule, rank: int, step: int, lane: Sequence[int]
) -> _Backward | Refusal:
    """Find which gradients each transfer carries: consecutive ones that fill it exactly."""
    graph = setting.graph
    own = setting.plan.graph.rank[graph.gradient_task] == rank
    own &= graph.step_of_task[graph.gradient_task] == step
    tasks, sizes = graph.gradient_task[own], graph.gradient_bytes[own]
    order = np.argsort(schedule.end_ns[tasks], kind="stable")
    tasks, sizes = tasks[order], sizes[order]
    filled = np.cumsum(sizes).tolist()
    transfers, buckets, first = [], [], 0
    for task in lane:
        size = graph.transfers[int(setting.plan.graph.collective[task])].size_bytes
        before = filled[first - 1] if first else 0
        if before + size in filled[first:]:
            stop = filled.index(before + size, first) + 1
            buckets.append(tuple(range(first, stop)))
            transfers.append(task)
            first = stop
    if first < len(filled) or not transfers:
        return Refusal(
            reason=f"the gradients that were seen ({sum(sizes.tolist())} bytes a step) do not fill "
            "the captured buckets one after the other",
            remedy="capture DDP without a communication hook, with recorded shapes",
        )
    return _Backward(tasks.tolist(), sizes.tolist(), transfers, tuple(buckets))


def _sending_ns(
    setting: Setting, own: _Backward, wanted: Sequence[Sequence[int]], ready: F64
) -> float:
    """Return from the last gradient on how long the new buckets take until all are sent."""
    alpha_ns, per_byte = _cost(setting, own)
    free = 0.0
    for bucket in wanted:
        size = sum(own.sizes[i] for i in bucket)
        free = max(free, float(ready[bucket[-1]])) + alpha_ns + per_byte * size
    return free - float(ready[-1])


def _cost(setting: Setting, own: _Backward) -> tuple[float, float]:
    """Return the latency of one transfer and the captured time of one byte."""
    graph, base = setting.plan.graph, setting.graph.base
    tasks = np.array(own.transfers)
    moves = [setting.graph.transfers[c] for c in graph.collective[tasks].tolist()]
    alpha_s = (setting.network.alpha_s or 0.0) if setting.network else 0.0
    latencies = np.array([1e9 * alpha_s * steps_of(m.op, m.ranks) for m in moves])
    # Transfers side by side share the link: only the time in which any of them ran counts.
    spans = union(base.start_ns[tasks].astype(np.int64), base.end_ns[tasks].astype(np.int64))
    unchanged = max(setting.graph.plan.graph.duration_ns[tasks].sum(), 1.0)
    spent = total_ns(spans) * setting.work.duration_ns[tasks].sum() / unchanged
    per_byte = max(0.0, spent - latencies.sum()) / sum(own.sizes)
    return float(latencies[0]), per_byte

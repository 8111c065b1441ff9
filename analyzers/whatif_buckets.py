"""What other DDP gradient buckets would do.

Where the capture tells when each gradient was ready, any size can be asked for; elsewhere only
merging neighbours can.
"""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import NONE
from perfkit.analyzers.whatif import Change, Setting
from perfkit.analyzers.whatif_rebucket import rebucketed
from perfkit.analyzers.whatif_transfers import steps_of, transfer_tasks
from perfkit.roofline.volumes import ddp_buckets
from perfkit.trace.intervals import total_ns, union


def buckets_of(bucket_mb: float) -> Change:
    """DDP's gradient buckets of `bucket_mb` MiB, set explicitly."""

    def edit(setting: Setting) -> Setting | Refusal:
        found = transfer_tasks(setting)
        if isinstance(found, Refusal):
            return found
        bucket_bytes = int(bucket_mb * 1024 * 1024)
        if len(setting.graph.gradient_task):
            return rebucketed(setting, _lanes(setting), bucket_bytes)
        return _merged(setting, bucket_bytes)

    notes = (
        "DDP's rule: a bucket closes once it reaches the size that was set",
        "a bucket starts when its last gradient is ready, pays the latency once (from this run's "
        "fit, else zero) and takes the captured time a byte",
        "without recorded shapes of the gradients only merging can be predicted",
    )
    return Change(
        name=f"buckets of {bucket_mb:g} MiB",
        option=f"--bucket-mb {bucket_mb:g}",
        assumptions=notes,
        apply=edit,
        recipe="ddp-buckets",
    )


def _merged(setting: Setting, bucket_bytes: int) -> Setting | Refusal:
    """Let the last transfer of each new bucket carry all; the others cost nothing."""
    graph, base = setting.plan.graph, setting.graph.base
    alpha_s = (setting.network.alpha_s or 0.0) if setting.network else 0.0
    duration = setting.work.duration_ns.copy()
    merged = 0
    for group in _groups(setting, bucket_bytes):
        moves = [setting.graph.transfers[int(graph.collective[t])] for t in group[1:]]
        saved = 1e9 * alpha_s * sum(steps_of(m.op, m.ranks) for m in moves)
        # Transfers side by side share the link: only the time in which any of them ran counts.
        spans = union(base.start_ns[group].astype(np.int64), base.end_ns[group].astype(np.int64))
        scale = duration[group].sum() / max(setting.graph.plan.graph.duration_ns[group].sum(), 1.0)
        duration[group[-1]] = max(0.0, total_ns(spans) * scale - saved)
        duration[group[:-1]] = 0.0
        merged += len(group) - 1
    if not merged:
        return Refusal(
            reason="no two neighbouring all-reduces fit into one such bucket, and when parts of a "
            "bucket were ready is not recorded"
        )
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _groups(setting: Setting, bucket_bytes: int) -> list[list[int]]:
    """Return the all-reduces of each rank and step that DDP would put into one bucket."""
    graph, steps = setting.plan.graph, setting.graph
    found = []
    for lane in _lanes(setting).values():
        sizes = [steps.transfers[int(graph.collective[t])].size_bytes for t in lane]
        for bucket in ddp_buckets(
            sizes, bucket_bytes=bucket_bytes, first_bucket_bytes=bucket_bytes
        ):
            found.append([lane[i] for i in bucket])
    return [group for group in found if len(group) > 1]


def _lanes(setting: Setting) -> dict[tuple[int, int], list[int]]:
    """Return the all-reduces of each rank and step in order."""
    graph, steps = setting.plan.graph, setting.graph
    lanes: dict[tuple[int, int], list[int]] = {}
    tasks = np.flatnonzero(graph.collective >= 0)
    for task in tasks[np.argsort(graph.collective[tasks], kind="stable")].tolist():
        move = steps.transfers[int(graph.collective[task])]
        if move.op == "all_reduce" and move.size_bytes > 0:
            lanes.setdefault((int(graph.rank[task]), int(steps.step_of_task[task])), []).append(
                task
            )
    return {key: lane for key, lane in lanes.items() if key[1] != NONE}

"""What other DDP gradient buckets would do: parts of the captured ones merged."""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import NONE
from perfkit.analyzers.whatif import Change, Setting
from perfkit.analyzers.whatif_transfers import steps_of, transfer_tasks
from perfkit.roofline.volumes import DDP_FIRST_BUCKET_BYTES, ddp_buckets
from perfkit.trace.intervals import total_ns, union


def larger_buckets(bucket_mb: float) -> Change:
    """Consecutive all-reduces of a step merged until a bucket holds `bucket_mb` MiB."""

    def edit(setting: Setting) -> Setting | Refusal:
        found = transfer_tasks(setting)
        if isinstance(found, Refusal):
            return found
        return _merged(setting, int(bucket_mb * 1024 * 1024))

    notes = (
        "DDP's rule: the first bucket closes at 1 MiB, the others once they reach the size",
        "a merged bucket starts when its last gradient is ready and pays the latency once",
        "only merging can be predicted: when parts of a bucket were ready is not recorded",
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
        return Refusal(reason="no two neighbouring all-reduces fit into one such bucket")
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _groups(setting: Setting, bucket_bytes: int) -> list[list[int]]:
    """Return the all-reduces of each rank and step that DDP would put into one bucket."""
    graph, steps = setting.plan.graph, setting.graph
    lanes: dict[tuple[int, int], list[int]] = {}
    tasks = np.flatnonzero(graph.collective >= 0)
    for task in tasks[np.argsort(graph.collective[tasks], kind="stable")].tolist():
        move = steps.transfers[int(graph.collective[task])]
        if move.op == "all_reduce" and move.size_bytes > 0:
            lanes.setdefault((int(graph.rank[task]), int(steps.step_of_task[task])), []).append(
                task
            )
    found = []
    first = min(DDP_FIRST_BUCKET_BYTES, bucket_bytes)
    for (_, step), lane in lanes.items():
        if step == NONE:
            continue
        sizes = [steps.transfers[int(graph.collective[t])].size_bytes for t in lane]
        for bucket in ddp_buckets(sizes, bucket_bytes=bucket_bytes, first_bucket_bytes=first):
            found.append([lane[i] for i in bucket])
    return [group for group in found if len(group) > 1]

"""Findings about communication and late ranks."""

from collections.abc import Iterator

from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.result import CollectiveRow, Finding
from perfkit.analyzers.rules import COMMUNICATION, STRAGGLER, finding
from perfkit.trace.kinds import TimeClass
from perfkit.units import bandwidth, milliseconds, percent, size

HIDDEN_ENOUGH = 0.5
"""Above this hidden part, overlap is at work and bandwidth is what is missing."""
TINY_BYTES = 1 << 20
MANY_CALLS = 8
HUGE_BYTES = 100 << 20


def exposed_communication(evidence: Evidence) -> Iterator[Finding]:
    """Transfers that no compute hides, whether for want of overlap or of bandwidth."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    severity = COMMUNICATION.severity(share)
    rows = [r for r in evidence.collectives if r.transfer_ms is not None]
    if severity is None or not rows:
        return
    transfer = sum((r.transfer_ms or 0.0) * r.count for r in rows)
    exposed = evidence.ms(TimeClass.COMM_TRANSFER)
    hidden = max(0.0, 1.0 - exposed / transfer) if transfer else 0.0
    worst = max(rows, key=lambda r: (r.transfer_ms or 0.0) * r.count)
    overlapped = hidden >= HIDDEN_ENOUGH
    yield finding(
        "slow_transfers" if overlapped else "no_overlap",
        severity,
        "Transfers outlast the compute that hides them"
        if overlapped
        else "Communication is not overlapped with compute",
        evidence=f"{milliseconds(exposed)} of {milliseconds(transfer)} of transfers per step stand "
        f"alone ({percent(share)} of the step); {_describe(worst)}",
        share=share,
        next_step=_overlap_advice(evidence, overlapped),
        not_when="the step has no compute left to hide it under",
    )


def _describe(row: CollectiveRow) -> str:
    speed = bandwidth(row.busbw_gbyte_per_s) + " bus bandwidth"
    what = f"{row.name} of {size(row.bytes)}" if row.bytes else row.name
    known = row.busbw_gbyte_per_s is not None
    return f"largest: {what}, {row.count:.3g} per step" + (f", {speed}" if known else "")


def _overlap_advice(evidence: Evidence, overlapped: bool) -> str:
    if overlapped:
        return "send less (bf16 gradients, no_sync while accumulating) or use a faster link"
    if any(fact(record, "ddp") for record in evidence.run.ranks):
        return "try smaller DDP buckets (bucket_cap_mb), so that the first leaves earlier"
    return "wrap the model in DistributedDataParallel, which overlaps buckets with backward"


def tiny_messages(evidence: Evidence) -> Iterator[Finding]:
    """Many small collectives pay latency over and over."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    rows = [
        r
        for r in evidence.collectives
        if r.bytes is not None and 0 < r.bytes < TINY_BYTES and r.name != "barrier"
    ]
    calls = sum(r.count for r in rows)
    spent = sum((r.transfer_ms or 0.0) * r.count for r in rows)
    part = spent / evidence.mean_window_ms if evidence.mean_window_ms else 0.0
    severity = COMMUNICATION.severity(min(part, share))
    if severity is None or calls < MANY_CALLS:
        return
    mean = sum((r.bytes or 0) * r.count for r in rows) / calls
    yield finding(
        "tiny_messages",
        severity,
        "Many small collectives pay latency each time",
        evidence=f"{calls:.3g} collectives per step of {size(mean)} on average take "
        f"{milliseconds(spent)}",
        share=min(part, share),
        next_step="raise bucket_cap_mb or coalesce the tensors into one collective",
        not_when="they are hidden under compute",
    )


def one_huge_bucket(evidence: Evidence) -> Iterator[Finding]:
    """All gradients travel in one collective, which can start only when backward is over."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    severity = COMMUNICATION.severity(share)
    rows = [r for r in evidence.collectives if r.name == "all_reduce" and (r.bytes or 0) > 0]
    if severity is None or not rows:
        return
    whole = sum((r.bytes or 0) * r.count for r in rows)
    largest = max(rows, key=lambda r: r.bytes or 0)
    if (largest.bytes or 0) < HUGE_BYTES or (largest.bytes or 0) < 0.8 * whole:
        return
    yield finding(
        "huge_bucket",
        severity,
        "Gradients travel in one huge collective",
        evidence=f"one all_reduce of {size(largest.bytes)} holds "
        f"{percent((largest.bytes or 0) / whole)} of the gradients",
        share=share,
        next_step="lower bucket_cap_mb (25 MB is DDP's default), so that buckets overlap backward",
    )


def late_rank(evidence: Evidence) -> Iterator[Finding]:
    """One rank takes longer and the others wait for it."""
    window = evidence.mean_window_ms
    for straggler in evidence.stragglers:
        severity = STRAGGLER.severity(straggler.excess_ms / window if window else 0.0)
        if severity is None:
            continue
        cause = (straggler.rank, straggler.class_)
        caused = sum(b.ms for b in evidence.blame if (b.rank, b.class_) == cause)
        ranks = len(evidence.surveys)
        delay = caused * ranks / (ranks - 1)  # mean wait of the others: what all ranks lose
        yield finding(
            f"straggler_{straggler.class_}",
            severity,
            f"Rank {straggler.rank} is late because of its {_CAUSES[straggler.class_]}",
            evidence=f"{milliseconds(straggler.excess_ms)} per step more than the median rank; "
            f"last in {percent(straggler.share_of_steps)} of the steps; the others wait "
            f"{milliseconds(delay)} per step because of it",
            ranks=(straggler.rank,),
            share=delay / window if window else None,
            next_step=_ADVICE.get(straggler.class_, _ADVICE["host_launch"]),
        )


_CAUSES = {
    "compute": "compute",
    "input_wait": "data loader",
    "checkpoint": "checkpoint",
    "memcpy": "copies",
    "comm_transfer": "other communication",
    "host_gc": "garbage collection",
    "host_sync": "waits for the device",
    "host_alloc": "memory allocation",
    "host_compile": "compilation",
    "host_launch": "Python code",
    "launch_latency": "launch latency",
    "idle_dependency": "stream dependencies",
    "other": "host",
}
_ADVICE = {
    "compute": "compare batch shapes and clocks of that rank with the others: uneven sequence "
    "lengths, a throttled device or a busy neighbour",
    "input_wait": "look at that rank's loader: its shard, its disk, its worker count",
    "checkpoint": "save on all ranks in shards, or asynchronously",
    "host_gc": "gc.freeze() after set-up, and collect on all ranks at the same step",
    "host_launch": "profile that rank's Python: perfkit profile --py-spy -- CMD",
}

RULES = (exposed_communication, tiny_messages, one_huge_bucket, late_rank)

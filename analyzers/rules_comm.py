"""Findings about communication."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from perfkit.analyzers.calls import POINT_TO_POINT
from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.parallelism import EXPERT, TENSOR
from perfkit.analyzers.result import CollectiveRow, Finding
from perfkit.analyzers.rules import COMMUNICATION, finding
from perfkit.analyzers.transfer_limits import (
    BANDWIDTH,
    LATENCY,
    fitted_limit,
    transfer_limit,
    transfer_ms,
)
from perfkit.trace.kinds import TimeClass
from perfkit.units import bandwidth, milliseconds, percent, size

HIDDEN_ENOUGH = 0.5
"""Above this hidden part, overlap is at work and bandwidth is what is missing."""
TINY_BYTES = 1 << 20
MANY_CALLS = 8
HUGE_BYTES = 100 << 20
UNMERGEABLE = POINT_TO_POINT | {"barrier"}
"""What a pipeline sends on is one tensor a micro-batch: there is nothing to merge it with."""
SHARDED = frozenset({"all_gather", "reduce_scatter"})
NEEDED_AT_ONCE = frozenset({TENSOR, EXPERT})


def no_overlap(evidence: Evidence) -> Iterator[Finding]:
    """Compute that could hide transfers runs before or after them.

    Overlap can hide no more than the compute that hides nothing yet, so that bounds the gain. The
    compute after a transfer of tensor or expert parallelism needs what it brings: these have
    nothing to be hidden under.
    """
    alone, needed = evidence.ms(TimeClass.COMM_TRANSFER), _needed_at_once(evidence)
    rows = [row for row in evidence.collectives if row not in needed]
    exposed = max(0.0, alone - sum(_exposed_ms(row) for row in needed))
    transfer = sum(map(transfer_ms, rows))
    hiding = max(0.0, sum(map(transfer_ms, evidence.collectives)) - alone)
    free = max(0.0, evidence.ms(TimeClass.COMPUTE) - hiding)
    share = min(exposed, free) / evidence.mean_window_ms if evidence.mean_window_ms else 0.0
    severity = COMMUNICATION.severity(share)
    if severity is None or not transfer or 1.0 - exposed / transfer >= HIDDEN_ENOUGH:
        return
    yield finding(
        "no_overlap",
        severity,
        "Communication is not overlapped with compute",
        evidence=f"{milliseconds(exposed)} of {milliseconds(transfer)} of transfers per step stand "
        f"alone, beside {milliseconds(free)} of compute that hides none; {_largest(rows)}",
        share=share,
        next_step=_overlap_advice(evidence, max(rows, key=transfer_ms)),
    )


def slow_transfers(evidence: Evidence) -> Iterator[Finding]:
    """More time goes into transfers than compute could hide: bytes or bandwidth must change."""
    exposed = evidence.ms(TimeClass.COMM_TRANSFER)
    share = evidence.share(TimeClass.COMM_TRANSFER)
    transfer = sum(map(transfer_ms, evidence.collectives))
    beyond = transfer - evidence.ms(TimeClass.COMPUTE)
    part = min(exposed, beyond) / evidence.mean_window_ms if evidence.mean_window_ms else 0.0
    severity = COMMUNICATION.severity(part)
    if severity is None or fitted_limit(evidence):
        return  # a fit of latency and bandwidth says it better
    limit = transfer_limit(evidence)
    found = finding(
        "slow_transfers",
        severity,
        "Transfers take longer than the compute that could hide them",
        evidence=f"{milliseconds(transfer)} of transfers against "
        f"{milliseconds(evidence.ms(TimeClass.COMPUTE))} of compute per step; "
        f"{percent(share)} of the step is exposed transfer; {_largest(evidence.collectives)}",
        share=share,
        next_step=_SHORTER[limit],
    )
    yield found if limit == BANDWIDTH else replace(found, recipe=None)


_SHORTER = {
    BANDWIDTH: "send fewer bytes (bf16 gradient compression, no_sync while accumulating) or use a "
    "faster link",
    LATENCY: "the messages are small, so latency costs, not their bytes: fewer calls a sample "
    "(a larger batch, no_sync over micro-batches), or a link of less latency",
    "": "communicate less often (no_sync while accumulating), which helps whether latency or bytes "
    "cost: this run's message sizes cannot tell. perfkit ceilings on the same nodes measures both; "
    "fewer bytes (bf16 gradient compression) help only where bytes cost",
}


def _needed_at_once(evidence: Evidence) -> list[CollectiveRow]:
    """Return the collectives whose result the compute after them needs, as far as that is known."""
    groups = {g.group for g in evidence.groups if g.kind in NEEDED_AT_ONCE}
    return [row for row in evidence.collectives if row.group in groups]


def _exposed_ms(row: CollectiveRow) -> float:
    """Return the part of it that no compute hides."""
    return (row.exposed_transfer_ms or 0.0) * row.mean_count


def _largest(rows: Sequence[CollectiveRow]) -> str:
    row = max(rows, key=transfer_ms)
    what = f"{row.name} of {size(row.bytes)}" if row.bytes else row.name
    speed = row.busbw_gbyte_per_s
    return f"largest: {what}, {row.count:.3g} per step" + (
        f", {bandwidth(speed)} bus bandwidth" if speed is not None else ""
    )


def _overlap_advice(evidence: Evidence, largest: CollectiveRow) -> str:
    if largest.name in POINT_TO_POINT:
        return (
            "post the next micro-batch's receive before computing this one, or use an interleaved "
            "schedule: sends and receives then run beside compute"
        )
    sent = sum((r.bytes or 0) * r.mean_count for r in evidence.collectives)
    if 0 < sent < TINY_BYTES and transfer_limit(evidence) == LATENCY:
        return "few bytes are sent, so latency costs: a larger batch, or no_sync over micro-batches"
    if largest.name in SHARDED:
        return (
            "gather the next layer's parameters ahead (FSDP: forward and backward prefetch), and "
            "start each reduce-scatter as soon as its gradients are there"
        )
    if largest.name == "all_to_all":
        return (
            "start each all_to_all as soon as its input is there, and compute meanwhile what does "
            "not need it (TorchRec: TrainPipelineSparseDist)"
        )
    smaller = "try smaller DDP buckets (bucket_cap_mb), so that the first leaves earlier"
    if any(fact(record, "ddp") for record in evidence.run.ranks):
        return smaller
    wrap = "wrap the model in DistributedDataParallel, which overlaps buckets with backward"
    told = any(fact(record, "torch") for record in evidence.run.ranks)
    return wrap if told else f"{wrap}; where it is wrapped, {smaller}"


def unsplit_communication(evidence: Evidence) -> Iterator[Finding]:
    """Communication that may be waiting or transferring: this capture cannot tell."""
    share = evidence.share(TimeClass.COMM_UNMATCHED)
    severity = COMMUNICATION.severity(share)
    if severity is None:
        return
    yield finding(
        "unsplit_communication",
        severity,
        "Communication is exposed, and this capture cannot say why",
        evidence=f"{milliseconds(evidence.ms(TimeClass.COMM_UNMATCHED))} per step, "
        f"{percent(share)}, either wait for a late rank or move data",
        share=share,
        next_step="capture all ranks with their sequence numbers: perfkit profile -- CMD",
    )


def tiny_messages(evidence: Evidence) -> Iterator[Finding]:
    """Many small collectives pay latency over and over."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    rows = [
        r
        for r in evidence.collectives
        if r.bytes is not None and 0 < r.bytes < TINY_BYTES and r.name not in UNMERGEABLE
    ]
    calls, spent = sum(r.mean_count for r in rows), sum(map(transfer_ms, rows))
    part = sum(map(_exposed_ms, rows)) / evidence.mean_window_ms if evidence.mean_window_ms else 0.0
    severity = COMMUNICATION.severity(min(part, share))
    if severity is None or calls < MANY_CALLS or fitted_limit(evidence):
        return  # a fit of latency and bandwidth says it better
    if transfer_limit(evidence) == BANDWIDTH:
        return  # their bytes cost, however they are cut
    mean = sum((r.bytes or 0) * r.mean_count for r in rows) / calls
    yield finding(
        "tiny_messages",
        severity,
        "Many small collectives pay latency each time",
        evidence=f"{calls:.3g} collectives per step of {size(mean)} on average take "
        f"{milliseconds(spent)}, {percent(min(part, share))} of the step not hidden under compute",
        share=min(part, share),
        next_step="raise bucket_cap_mb or coalesce the tensors into one collective",
    )


def one_huge_bucket(evidence: Evidence) -> Iterator[Finding]:
    """All gradients travel in one collective, which can start only when backward is over."""
    needed = _needed_at_once(evidence)
    reduced = [r for r in evidence.collectives if r.name == "all_reduce" and r not in needed]
    largest = max(reduced, key=lambda r: r.bytes or 0, default=None)
    if largest is None or not evidence.mean_window_ms:
        return
    whole = sum((r.bytes or 0) * r.mean_count for r in reduced)
    part = sum(_exposed_ms(r) for r in reduced if r.bytes == largest.bytes)
    share = min(part / evidence.mean_window_ms, evidence.share(TimeClass.COMM_TRANSFER))
    severity = COMMUNICATION.severity(share)
    if severity is None or (largest.bytes or 0) < HUGE_BYTES or (largest.bytes or 0) < 0.8 * whole:
        return
    yield finding(
        "huge_bucket",
        severity,
        "Gradients travel in one huge collective",
        evidence=f"one all_reduce of {size(largest.bytes)} holds "
        f"{percent((largest.bytes or 0) / whole)} of the gradients; {percent(share)} of the step "
        "passes in it, not hidden under compute",
        share=share,
        next_step="lower bucket_cap_mb (25 MB is DDP's default), so that buckets overlap backward",
    )


RULES = (
    no_overlap,
    slow_transfers,
    unsplit_communication,
    tiny_messages,
    one_huge_bucket,
)

"""Findings about how the model is trained: optimizer, DDP's options, batches, memory."""

from collections.abc import Iterator

from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.result import Finding
from perfkit.analyzers.rules import COMMUNICATION, HOST, STRAGGLER, affected, finding
from perfkit.trace.kinds import TimeClass
from perfkit.units import count, milliseconds, percent, size

MANY_UPDATES = 50
"""Kernels or operators of one optimizer step from which on fusing is worth a try."""
LEAST_GROWTH = 0.001
"""Growth a step, of the peak, below which memory counts as level."""
HELD_BACK = 1.25
"""Reserved over allocated at their peaks from which on the difference is worth knowing."""
LEAST_HELD_BYTES = 1 << 30


def unfused_optimizer(evidence: Evidence) -> Iterator[Finding]:
    """The optimizer updates parameters in many small pieces."""
    counts = {r: s.counts for r, s in evidence.surveys.items() if s.counts.steps}
    if not counts or any(c.optimizer_fused for c in counts.values()):
        return
    pieces = sum(c.optimizer_work / c.steps for c in counts.values()) / len(counts)
    per_rank = {r: c.optimizer_ns / c.steps / 1e6 for r, c in counts.items()}
    spent = sum(per_rank.values()) / len(per_rank)
    share = spent / evidence.mean_window_ms if evidence.mean_window_ms else 0.0
    severity = HOST.severity(share)
    if severity is None or pieces < MANY_UPDATES:
        return
    what = "kernels" if evidence.on_device else "operators"
    yield finding(
        "unfused_optimizer",
        severity,
        "The optimizer updates parameters piece by piece",
        evidence=f"{count(round(pieces))} {what} in each optimizer step take "
        f"{milliseconds(spent)}, {percent(share)} of the step; none of them is fused",
        ranks=affected(per_rank),
        share=share,
        next_step="fused=True for Adam, AdamW, SGD or Adagrad",
    )


def find_unused_parameters(evidence: Evidence) -> Iterator[Finding]:
    """DDP walks the graph in every backward for parameters that are all used."""
    ranks = tuple(
        record.rank
        for record in evidence.run.ranks
        if fact(record, "ddp", "find_unused_parameters") is True
        and fact(record, "ddp", "static_graph") is not True  # then DDP looks in one step only
        and fact(record, "ddp_logging", "unused_parameter_size") == 0
    )
    if not ranks or len(ranks) < len(evidence.run.ranks):
        return
    yield finding(
        "find_unused_parameters",
        "moderate",
        "DDP looks for unused parameters and finds none",
        evidence="find_unused_parameters=True, and at the end of the run DDP counts 0 bytes of "
        "unused parameters",
        ranks=ranks,
        next_step="DistributedDataParallel(find_unused_parameters=False), the default",
    )


def sync_batch_norm(evidence: Evidence) -> Iterator[Finding]:
    """Batch norms wait for all ranks in every forward and backward."""
    calls = {
        r: s.counts.sync_batch_norms / s.counts.steps
        for r, s in evidence.surveys.items()
        if s.counts.steps and s.counts.sync_batch_norms
    }
    logged = any(fact(r, "ddp_logging", "has_sync_bn") == 1 for r in evidence.run.ranks)
    if not calls and not logged:
        return
    exposed = evidence.share(TimeClass.COMM_TRANSFER, TimeClass.COMM_UNMATCHED)
    seen = "the model holds SyncBatchNorm, by DDP's own log"
    if calls:
        seen = f"SyncBatchNorm runs {max(calls.values()):.3g} times a step"
    yield finding(
        "sync_batch_norm",
        "info" if COMMUNICATION.severity(exposed) is None else "moderate",
        "Batch norms exchange statistics between ranks",
        evidence=f"{seen}; {percent(exposed)} of the step is exposed "
        "communication, of which its small messages are a part",
        ranks=tuple(calls),
        next_step="plain BatchNorm where the batch of a rank is large, or GroupNorm",
    )


def uneven_compute(evidence: Evidence) -> Iterator[Finding]:
    """The ranks take turns in having the longest batch, and the others wait."""
    named = {s.rank for s in evidence.stragglers} | set(evidence.unsure_late)
    ranks = len(evidence.surveys)
    caused = sum(
        b.ms for b in evidence.blame if b.class_ == TimeClass.COMPUTE.key and b.rank not in named
    )
    if ranks < 2 or not evidence.mean_window_ms:
        return
    delay = caused * ranks / (ranks - 1)
    severity = STRAGGLER.severity(delay / evidence.mean_window_ms)
    if severity is None:
        return
    yield finding(
        "uneven_compute",
        severity,
        "Ranks compute for unequal times in turn",
        evidence=f"within a step the longest and the shortest computing rank differ by "
        f"{percent(evidence.compute_spread)} of the mean; ranks wait {milliseconds(delay)} per "
        "step for whoever computes longest",
        share=delay / evidence.mean_window_ms,
        next_step="batches of equal work: bucket samples by length, or count tokens, not samples",
    )


def memory_growth(evidence: Evidence) -> Iterator[Finding]:
    """Every step leaves more memory allocated than the one before."""
    growing = {
        s.rank: s.memory
        for s in evidence.surveys.values()
        if s.memory is not None
        and s.memory.rises
        and (s.memory.growth_bytes_per_step or 0.0) >= LEAST_GROWTH * s.memory.peak_allocated_bytes
    }
    if not growing:
        return
    worst = max(growing.values(), key=lambda m: m.growth_bytes_per_step or 0.0)
    yield finding(
        "memory_growth",
        "moderate",
        "Memory grows from step to step",
        evidence=f"{size(worst.growth_bytes_per_step)} more at the end of each step on "
        f"{worst.device}, of {size(worst.peak_allocated_bytes)} at the peak",
        ranks=tuple(growing),
        next_step="keep no tensors with a graph across steps: loss.item() or .detach() for sums "
        "and logs",
    )


def memory_fragmentation(evidence: Evidence) -> Iterator[Finding]:
    """The allocator holds far more of the device than tensors ever fill."""
    held = {
        s.rank: s.memory
        for s in evidence.surveys.values()
        if s.memory is not None
        and s.memory.peak_reserved_bytes >= HELD_BACK * s.memory.peak_allocated_bytes
        and s.memory.peak_reserved_bytes - s.memory.peak_allocated_bytes >= LEAST_HELD_BYTES
    }
    if not held:
        return
    worst = max(held.values(), key=lambda m: m.peak_reserved_bytes - m.peak_allocated_bytes)
    yield finding(
        "memory_fragmentation",
        "info",
        "The allocator holds more memory than tensors fill",
        evidence=f"{size(worst.peak_reserved_bytes)} reserved at the peak on {worst.device}, "
        f"{size(worst.peak_allocated_bytes)} allocated at the peak",
        ranks=tuple(held),
        next_step="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, and steady batch shapes",
    )


def allocator_retries(evidence: Evidence) -> Iterator[Finding]:
    """The allocator had to give its whole cache back to the device before it got memory."""
    retried = {
        s.rank: s.memory
        for s in evidence.surveys.values()
        if s.memory is not None and (s.memory.retries or 0) > 0
    }
    if not retried:
        return
    within = {rank: m.retries_in_steps or 0 for rank, m in retried.items()}
    again = tuple(rank for rank, times in within.items() if times)
    worst = max(retried.values(), key=lambda m: (m.retries_in_steps or 0, m.retries or 0))
    yield finding(
        "allocator_retries",
        "moderate" if again else "info",
        "The allocator ran out of room and gave its cache back",
        evidence=f"{count(worst.retries or 0)} times on {worst.device} since the start, "
        f"{count(worst.retries_in_steps or 0)} of them within {count(worst.samples)} recorded "
        f"steps; {size(worst.peak_reserved_bytes)} reserved at the peak",
        ranks=again or tuple(retried),
        next_step="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or a smaller batch: each "
        "retry waits for the device and frees every cached block",
    )


def pipeline_bubble(evidence: Evidence) -> Iterator[Finding]:
    """Stages of a pipeline wait for each other."""
    share = evidence.share(TimeClass.PIPE_BUBBLE)
    severity = COMMUNICATION.severity(share)
    if severity is None:
        return
    yield finding(
        "pipeline_bubble",
        severity,
        "Pipeline stages wait for each other",
        evidence=f"{milliseconds(evidence.ms(TimeClass.PIPE_BUBBLE))} per step, {percent(share)}"
        + "".join(f"; {p.sentence}" for p in (evidence.pipeline,) if p is not None),
        ranks=affected(evidence.rank_ms(TimeClass.PIPE_BUBBLE)),
        share=share,
        next_step="more micro-batches a step, or an interleaved or zero-bubble schedule",
    )


RULES = (
    unfused_optimizer,
    find_unused_parameters,
    sync_batch_norm,
    uneven_compute,
    pipeline_bubble,
    memory_growth,
    memory_fragmentation,
    allocator_retries,
)

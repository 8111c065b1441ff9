"""Findings about input, copies and checkpoints."""

from collections.abc import Iterator

from msgspec.structs import replace

from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.result import Finding
from perfkit.analyzers.rules import COPIES, INPUT, affected, finding
from perfkit.trace.kinds import TimeClass
from perfkit.units import milliseconds, percent, size

PAGEABLE_PART = 0.5
SMALL_COPY_BYTES = 1 << 16
"""Below this a copy costs its launch and the link's latency, not its bytes or its memory."""

MOST_NAMED = 4
"""So many ranks are named with their own numbers."""


def slow_loader(evidence: Evidence) -> Iterator[Finding]:
    """The step waits for its next batch (XProf's input thresholds, after blame)."""
    share = evidence.share(TimeClass.INPUT_WAIT)
    if not evidence.surveys:
        share = evidence.whole.steps.input_wait_share or 0.0
    severity = INPUT.severity(share)
    if severity is None:
        return
    per_rank = evidence.rank_ms(TimeClass.INPUT_WAIT)
    ranks = affected(per_rank)
    own = ", ".join(f"rank {r} {milliseconds(per_rank[r])}" for r in ranks[:MOST_NAMED])
    own += f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    workers = _workers(evidence)
    yield finding(
        "slow_loader",
        severity,
        "Training waits for its data loader",
        evidence=f"{percent(share)} of the step, counting the ranks that wait for the late one"
        + (f"; waiting per step: {own}" if own else "")
        + (f"; num_workers={workers}" if workers is not None else ""),
        ranks=ranks,
        share=share,
        next_step=_loader_advice(workers),
    )


def _workers(evidence: Evidence) -> int | None:
    found = [fact(record, "loader", "num_workers") for record in evidence.run.ranks]
    return next((n for n in found if isinstance(n, int)), None)


def _loader_advice(workers: int | None) -> str:
    if workers == 0:
        return "set DataLoader(num_workers=4, persistent_workers=True): decoding then overlaps"
    if workers is None:
        return "time the fetch alone, then load ahead in worker processes"
    return f"raise num_workers above {workers} or prefetch_factor, and profile one worker's decode"


def pageable_copies(evidence: Evidence) -> Iterator[Finding]:
    """Batches go to the device from pageable memory, which neither overlaps nor runs fast."""
    share = evidence.share(TimeClass.MEMCPY)
    severity = COPIES.severity(share)
    counts = [s.counts for s in evidence.surveys.values() if s.counts.steps]
    alone = sum(c.exposed_pageable_ns / c.steps for c in counts) / max(len(counts), 1) / 1e6
    if severity is None or alone < PAGEABLE_PART * evidence.ms(TimeClass.MEMCPY) or not alone:
        return
    if _small(evidence):
        return
    pageable = sum(c.pageable_h2d_ns / c.steps for c in counts) / len(counts) / 1e6
    moved = sum(c.pageable_h2d_bytes / c.steps for c in counts) / len(counts)
    calls = sum(c.pageable_h2d / c.steps for c in counts) / len(counts)
    yield finding(
        "pageable_copies",
        severity,
        "Copies to the device come from pageable memory",
        evidence=f"copies from pageable memory take {milliseconds(pageable)} per step "
        f"({size(moved)}, in {calls:.3g}); {percent(share)} of the step is copies that nothing "
        "hides",
        ranks=affected({r: float(s.counts.pageable_h2d_ns) for r, s in evidence.surveys.items()}),
        share=share,
        next_step="DataLoader(pin_memory=True) and tensor.to(device, non_blocking=True)",
    )


def exposed_copies(evidence: Evidence) -> Iterator[Finding]:
    """Copies between host and device stand alone; small ones do whatever memory they are in."""
    share = evidence.share(TimeClass.MEMCPY)
    severity = COPIES.severity(share)
    if severity is None or any(pageable_copies(evidence)):
        return
    small = _small(evidence)
    found = finding(
        "exposed_copies",
        severity,
        "Copies between host and device are not hidden",
        evidence=f"copies take {milliseconds(evidence.ms(TimeClass.MEMCPY))} per step in which "
        f"nothing else runs, {percent(share)} of it" + _how_many(evidence),
        ranks=affected(evidence.rank_ms(TimeClass.MEMCPY)),
        share=share,
        next_step=_copy_advice(evidence, small),
    )
    yield replace(found, recipe=None) if small else found


def _copy_advice(evidence: Evidence, small: bool) -> str:
    copies, compute = evidence.ms(TimeClass.MEMCPY), evidence.ms(TimeClass.COMPUTE)
    if small:
        return "copy once: gather what a step needs in one tensor, and read results together"
    if copies > compute:
        return (
            "copy less, or keep on the device what steps use again: computing could hide "
            f"{milliseconds(compute)} of copies a step at most"
        )
    return "copy the next batch on a second stream while the current one computes"


def _how_many(evidence: Evidence) -> str:
    counts = [s.counts for s in evidence.surveys.values() if s.counts.copies]
    if not counts:
        return ""
    calls = sum(c.copies / c.steps for c in counts) / len(counts)
    mean = _copy_bytes(evidence)
    return f"; {calls:.3g} per step" + (f", of {size(mean)} on average" if mean is not None else "")


def _copy_bytes(evidence: Evidence) -> float | None:
    """Return the mean size of a copy between host and device; None where no size is recorded."""
    counts = [s.counts for s in evidence.surveys.values() if s.counts.sized_copies]
    copies = sum(c.sized_copies for c in counts)
    return sum(c.copied_bytes for c in counts) / copies if copies else None


def _small(evidence: Evidence) -> bool:
    mean = _copy_bytes(evidence)
    return mean is not None and mean < SMALL_COPY_BYTES


def checkpoint_stall(evidence: Evidence) -> Iterator[Finding]:
    """Training stands still while a checkpoint is written."""
    steps = evidence.whole.steps
    share = max(evidence.share(TimeClass.CHECKPOINT), steps.checkpoint_share or 0.0)
    severity = INPUT.severity(share)
    if severity is None:
        return
    rhythm = next((p for p in steps.periodic if p.cause == "checkpoint"), None)
    detail = f"; every {rhythm.every} steps, {milliseconds(rhythm.extra_ms)} each" if rhythm else ""
    yield finding(
        "checkpoint_stall",
        severity,
        "Training stands still while it saves checkpoints",
        evidence=f"saving takes {percent(share)} of the time{detail}",
        ranks=affected(evidence.rank_ms(TimeClass.CHECKPOINT)),
        share=share,
        next_step="save asynchronously (torch.distributed.checkpoint.async_save) or less often",
    )


RULES = (slow_loader, pageable_copies, exposed_copies, checkpoint_stall)

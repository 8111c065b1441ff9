"""How much memory a rank's allocator held: the peak, the growth from step to step, the course."""

import msgspec
import numpy as np

from perfkit.analyzers.result import MemoryPoint, RankMemory
from perfkit.trace.model import (
    I64,
    NONE,
    Bool,
    MemorySamples,
    RankTrace,
    StepMemory,
    StepWindows,
)

STRETCHES = 240
"""Points of a course at most: each shows the most that was held in its stretch of time."""

STEPS_FOR_GROWTH = 3
STEPS_FOR_TREND = 5


def memory_of(trace: RankTrace, held: StepMemory | None) -> RankMemory | None:
    """Return what is known of a rank's memory: from its trace, else from its step lines.

    Retries stand in the step lines alone.
    """
    whole = rank_memory(trace)
    own = memory_of_steps(trace, held)
    if whole is None or own is None:
        return whole or own
    return msgspec.structs.replace(
        whole, retries=own.retries, retries_in_steps=own.retries_in_steps
    )


def rank_memory(trace: RankTrace) -> RankMemory | None:
    """Return what the allocator of the rank's device held; None where nothing was recorded.

    A run on an accelerator is asked for that device's memory, a run on the host for the host's.
    """
    samples = trace.memory
    if samples is None:
        return None
    device = trace.device if trace.device_kind != "cpu" else NONE
    held = _of_device(samples, samples.device == device)
    if not len(held.at_ns):
        return None
    peak = int(held.allocated_bytes.argmax())
    at_ends = _at_ends(held, trace.steps)
    return RankMemory(
        rank=trace.rank,
        device="cpu" if device == NONE else f"{trace.device_kind}:{device}",
        peak_allocated_bytes=int(held.allocated_bytes[peak]),
        peak_reserved_bytes=int(held.reserved_bytes.max()),
        peak_step=_step_at(trace.steps, int(held.at_ns[peak])),
        growth_bytes_per_step=_growth(at_ends),
        rises=len(at_ends) >= STEPS_FOR_TREND and bool((np.diff(at_ends) > 0).all()),
        samples=len(held.at_ns),
        series=_series(held),
    )


def memory_of_steps(trace: RankTrace, held: StepMemory | None) -> RankMemory | None:
    """Return what the step lines say of the device's memory; None where they say nothing.

    The peak is that of the whole run up to the last of these steps; its step is the one after which
    it was first seen, None where that is the first of them: it may lie before.
    """
    if held is None or trace.device_kind == "cpu":
        return None
    peak = int(held.peak_allocated_bytes.max())
    first = int((held.peak_allocated_bytes == peak).argmax())
    counted = held.retries[held.retries != NONE]
    return RankMemory(
        rank=trace.rank,
        device=f"{trace.device_kind}:{trace.device}",
        peak_allocated_bytes=peak,
        peak_reserved_bytes=int(held.peak_reserved_bytes.max()),
        peak_step=int(held.index[first]) if first else None,
        growth_bytes_per_step=_growth_of_lines(held),
        rises=len(held.index) >= STEPS_FOR_TREND
        and bool((np.diff(held.allocated_bytes) > 0).all()),
        retries=int(counted[-1]) if len(counted) else None,
        retries_in_steps=int(counted[-1] - counted[0]) if len(counted) else None,
        samples=len(held.index),
        series=_series(
            MemorySamples(
                at_ns=held.end_ns,
                device=np.full(len(held.index), trace.device, np.int16),
                allocated_bytes=held.allocated_bytes,
                reserved_bytes=held.reserved_bytes,
            )
        ),
    )


def _of_device(samples: MemorySamples, rows: Bool) -> MemorySamples:
    return MemorySamples(
        at_ns=samples.at_ns[rows],
        device=samples.device[rows],
        allocated_bytes=samples.allocated_bytes[rows],
        reserved_bytes=samples.reserved_bytes[rows],
    )


def _step_at(steps: StepWindows, at_ns: int) -> int | None:
    inside = np.flatnonzero((steps.start_ns <= at_ns) & (at_ns < steps.end_ns))
    return int(steps.index[inside[0]]) if len(inside) else None


def _at_ends(held: MemorySamples, steps: StepWindows) -> I64:
    """Return what was allocated at the end of each whole step."""
    ends: I64 = steps.end_ns[steps.complete]
    last = np.searchsorted(held.at_ns, ends, side="right") - 1
    return held.allocated_bytes[last[last >= 0]]


def _growth(at_ends: I64) -> float | None:
    if len(at_ends) < STEPS_FOR_GROWTH:
        return None
    return float(at_ends[-1] - at_ends[0]) / (len(at_ends) - 1)


def _growth_of_lines(held: StepMemory) -> float | None:
    if len(held.index) < STEPS_FOR_GROWTH:
        return None
    steps = int(held.index[-1]) - int(held.index[0])  # two windows leave steps out
    return float(held.allocated_bytes[-1] - held.allocated_bytes[0]) / steps


def _series(held: MemorySamples) -> tuple[MemoryPoint, ...]:
    first, last = int(held.at_ns[0]), int(held.at_ns[-1])
    width = max((last - first) / STRETCHES, 1.0)
    stretch = np.minimum((held.at_ns - first) // width, STRETCHES - 1).astype(np.int64)
    begins = np.flatnonzero(np.diff(stretch, prepend=-1))
    groups = np.split(np.arange(len(stretch)), begins[1:])
    points = [rows[held.allocated_bytes[rows].argmax()] for rows in groups]
    return tuple(
        MemoryPoint(
            at_ms=(int(held.at_ns[row]) - first) / 1e6,
            allocated_bytes=int(held.allocated_bytes[row]),
            reserved_bytes=int(held.reserved_bytes[row]),
        )
        for row in points
    )

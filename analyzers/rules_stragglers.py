"""Findings about late ranks: each by what makes the rank late.

Compute that takes longer because the GPU's clocks were lowered is told from compute that is more:
for as long as a GPU runs at a part q of its clock, work takes at most 1/q times as long.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import Finding, Straggler
from perfkit.analyzers.result_telemetry import GpuLoad
from perfkit.analyzers.rules import STRAGGLER, finding
from perfkit.analyzers.rules_telemetry import COOLING, FEW_SAMPLES, SLOWED
from perfkit.analyzers.stragglers import over_median
from perfkit.analyzers.telemetry import node_loads
from perfkit.trace.kinds import TimeClass
from perfkit.units import milliseconds, number, percent

THROTTLING = "throttling"
MOSTLY = 0.5
"""The part of a rank's excess that lowered clocks must be able to explain to be its cause."""


@dataclass(frozen=True, slots=True)
class _Brake:
    """By how much lowered clocks can lengthen a rank's compute beyond the median rank's."""

    ms: float
    words: str


def late_rank(evidence: Evidence) -> Iterator[Finding]:
    """One rank takes longer and the others wait for it."""
    window, ranks = evidence.mean_window_ms, len(evidence.surveys)
    for straggler in evidence.stragglers:
        cause = (straggler.rank, straggler.class_)
        caused = sum(b.ms for b in evidence.blame if (b.rank, b.class_) == cause)
        caused += evidence.lost_overlap_ms.get(cause, 0.0)
        delay = caused * ranks / (ranks - 1)  # mean over the others: what all ranks lose
        severity = STRAGGLER.severity(delay / window)
        if severity is None:
            continue
        brake = _brake_of(straggler, evidence)
        slowed = brake is not None and brake.ms >= MOSTLY * straggler.excess_ms
        why, name = f"of its {_CAUSES[straggler.class_]}", straggler.class_
        if slowed:
            why, name = "its GPU runs at lowered clocks", THROTTLING
        yield finding(
            f"straggler_{name}",
            severity,
            f"Rank {straggler.rank} is late because {why}",
            evidence=f"{milliseconds(straggler.excess_ms)} per step more than {_median(ranks)}; "
            f"last in {percent(straggler.share_of_steps)} of the steps; the others lose "
            f"{milliseconds(delay)} per step because of it" + (brake.words if brake else ""),
            ranks=(straggler.rank,),
            share=delay / window,
            next_step=COOLING if slowed else _ADVICE.get(straggler.class_, _ADVICE["host_launch"]),
        )


def _median(ranks: int) -> str:
    return "the other rank" if ranks == 2 else "the median rank"


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
    "host_launch": "profile that rank's Python: perfkit profile --with-stack -- CMD",
}


def _brake_of(straggler: Straggler, evidence: Evidence) -> _Brake | None:
    """Return what lowered clocks can explain of a rank's longer compute; None where nothing."""
    slowed = _slowed(evidence) if straggler.class_ == TimeClass.COMPUTE.key else {}
    if straggler.rank not in slowed:
        return None
    compute = evidence.rank_ms(TimeClass.COMPUTE)
    lost = [_lost_share(slowed[rank]) if rank in slowed else 0.0 for rank in compute]
    beyond = over_median(lost, list(compute).index(straggler.rank))  # all slowed alike: nobody late
    ms = compute[straggler.rank] * beyond
    gpu = slowed[straggler.rank]
    words = (
        f"; its GPU ran at {number(gpu.slowed_sm_mhz)} of {number(gpu.max_sm_mhz)} MHz in "
        f"{percent(gpu.slowed_share)} of the samples, slowed by heat or a hardware brake: that can "
        f"explain up to {milliseconds(ms)} of it"
    )
    return _Brake(ms, words) if ms > 0 else None


def _slowed(evidence: Evidence) -> Mapping[int, GpuLoad]:
    """Return by rank the GPU that was slowed, where its clocks then are known."""
    return {
        rank: gpu
        for node in node_loads(evidence.run)
        for gpu in node.gpus
        for rank in gpu.ranks
        if node.samples >= FEW_SAMPLES and SLOWED.severity(gpu.slowed_share or 0.0) is not None
        if gpu.slowed_sm_mhz is not None and gpu.max_sm_mhz
    }


def _lost_share(gpu: GpuLoad) -> float:
    """Return the part of a GPU's time that it would not have needed at its full clock."""
    clock = (gpu.slowed_sm_mhz or 0.0) / (gpu.max_sm_mhz or 1.0)
    return (gpu.slowed_share or 0.0) * max(0.0, 1.0 - clock)


RULES = (late_rank,)

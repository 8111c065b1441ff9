"""A late rank by each cause: who, why, by how much, what the others lose; else no alarm."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis, Finding
from perfkit.trace.model import NodeRecord, RankTrace
from perfkit.trace.telemetry import GpuFacts, GpuSample, Sample, Telemetry
from tests.builders import (
    Item,
    StepItem,
    alloc,
    checkpoint,
    compiling,
    gc_pause,
    gloo,
    h2d,
    input_wait,
    kernel,
    nccl,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
    sync,
)

RANKS, STEPS, STEP_MS, COMPUTE_MS, LATE_MS, UPDATE_MS = 3, 12, 100.0, 40.0, 30.0, 5.0
SECOND = 1_000_000_000
DEVICE_CAUSES = {
    "input_wait": lambda at, ms: input_wait(at_ms=at, ms=ms),
    "checkpoint": lambda at, ms: checkpoint(at_ms=at, ms=ms),
    "memcpy": lambda at, ms: h2d(at_ms=at, ms=ms),
    "host_gc": lambda at, ms: gc_pause(at_ms=at, ms=ms),
    "host_launch": lambda at, ms: op("aten::add", at_ms=at, ms=ms),
    "host_compile": lambda at, ms: compiling(at_ms=at, ms=ms),
    "host_alloc": lambda at, ms: alloc(at_ms=at, ms=ms),
}
CPU_CAUSES = ("input_wait", "checkpoint", "host_gc", "host_compile")
NAMES = {
    "compute": "compute",
    "input_wait": "data loader",
    "checkpoint": "checkpoint",
    "memcpy": "copies",
    "host_gc": "garbage collection",
    "host_launch": "Python code",
    "host_compile": "compilation",
    "host_alloc": "memory allocation",
}


def gpu_rank(rank: int, cause: str, late_ms: float) -> RankTrace:
    """Be held up, compute, reduce until all are there, update; the host waits for the device.

    Step 0 is left out: on a device nothing shows what went on before its first kernel.
    """
    items: list[Item | StepItem] = []
    for k in range(STEPS + 1):
        t = k * STEP_MS
        longer = late_ms if cause == "compute" else 0.0
        begin = t + late_ms - longer
        if cause in DEVICE_CAUSES and late_ms:
            items.append(DEVICE_CAUSES[cause](t, late_ms))
        reduce = begin + COMPUTE_MS + longer
        items += [
            step(k, at_ms=t, ms=STEP_MS, has_eval=k == 0),
            kernel("gemm", at_ms=begin, ms=COMPUTE_MS + longer),
            nccl("all_reduce", at_ms=reduce, ms=t + 95 - reduce, sequence=k + 1),
            sync(at_ms=begin + 1, ms=t + 94 - begin),
            kernel("adam", at_ms=t + 95, ms=UPDATE_MS),
        ]
    return rank_trace(*items, rank=rank, world_size=RANKS)


def cpu_rank(rank: int, cause: str, late_ms: float) -> RankTrace:
    """The same on a CPU, where time without any record is Python's."""
    items: list[Item | StepItem] = []
    for k in range(STEPS):
        t = k * STEP_MS
        longer = late_ms if cause == "compute" else 0.0
        begin = t + late_ms - longer
        if cause in CPU_CAUSES and late_ms:
            items.append(DEVICE_CAUSES[cause](t, late_ms))
        reduce = begin + COMPUTE_MS + longer
        items += [
            step(k, at_ms=t, ms=STEP_MS, has_eval=k == 0),
            op("aten::mm", at_ms=begin, ms=COMPUTE_MS + longer),
            gloo("all_reduce", at_ms=reduce, ms=t + 95 - reduce, sequence=k + 1),
            op("aten::add_", at_ms=t + 95, ms=UPDATE_MS),
        ]
    return rank_trace(*items, rank=rank, world_size=RANKS, device_kind="cpu")


def analysed(make: object, cause: str, late_ms: Sequence[float]) -> Analysis:
    assert callable(make)
    run, load = run_of(*(make(rank, cause, ms) for rank, ms in enumerate(late_ms)))
    return analyze(run, load)


def late_findings(analysis: Analysis) -> dict[str, Finding]:
    return {f.id: f for f in analysis.findings if f.id.startswith("straggler_")}


@pytest.mark.parametrize(
    ("make", "cause"),
    [(gpu_rank, cause) for cause in ("compute", *DEVICE_CAUSES)]
    + [(cpu_rank, cause) for cause in ("compute", "host_launch", *CPU_CAUSES)],
)
def test_one_late_rank_is_named_with_its_cause(make: object, cause: str) -> None:
    """Rank 1 is held up for 30 ms of 100: without that, every step would take 70 ms."""
    analysis = analysed(make, cause, [0.0, LATE_MS, 0.0])
    (late,) = analysis.stragglers
    assert (late.rank, late.class_, late.share_of_steps) == (1, cause, 1.0)
    assert late.excess_ms == pytest.approx(LATE_MS)
    blamed = {(b.rank, b.class_): b.ms for b in analysis.verdict.blame}
    assert blamed == {(1, cause): pytest.approx(LATE_MS * 2 / 3)}  # two of three ranks wait
    assert set(late_findings(analysis)) == {f"straggler_{cause}"}
    found = late_findings(analysis)[f"straggler_{cause}"]
    assert found.title == f"Rank 1 is late because of its {NAMES[cause]}"
    assert found.ranks == (1,) and found.severity == "high"
    assert found.evidence == (
        "30.0 ms per step more than the median rank; last in 100% of the steps; "
        "the others lose 30.0 ms per step because of it"
    )
    assert found.gain_ceiling == pytest.approx(100 / 70)
    assert found.next_step and found.not_when


@pytest.mark.parametrize("make", [gpu_rank, cpu_rank])
@pytest.mark.parametrize("cause", ["compute", "host_launch", *CPU_CAUSES])
def test_what_holds_all_ranks_up_alike_makes_no_straggler(make: object, cause: str) -> None:
    analysis = analysed(make, cause, [LATE_MS] * RANKS)
    assert analysis.stragglers == () and late_findings(analysis) == {}
    assert analysis.verdict.blame == ()


@pytest.mark.parametrize("make", [gpu_rank, cpu_rank])
def test_a_rank_late_by_less_than_a_twentieth_of_a_step_is_left_alone(make: object) -> None:
    assert late_findings(analysed(make, "input_wait", [0.0, 4.0, 0.0])) == {}
    assert set(late_findings(analysed(make, "input_wait", [0.0, 6.0, 0.0]))) == {
        "straggler_input_wait"
    }


def throttled(*slowed: tuple[float, int] | None) -> Analysis:
    """Rank 1 computes 30 ms longer. Per GPU: its clock (of 1980 MHz) in so many of 12 samples."""
    run, load = run_of(
        *(gpu_rank(rank, "compute", LATE_MS if rank == 1 else 0.0) for rank in range(RANKS)),
        lines={rank: step_lines([1000.0] * 12) for rank in range(RANKS)},
        facts={rank: {"device_uuid": f"5a{rank}-B7"} for rank in range(RANKS)},
    )
    begin = int(run.ranks[0].lines.start_ns[0])
    samples = tuple(
        Sample(
            u=begin + (i + 1) * SECOND,
            dt=SECOND,
            gpus=tuple(
                GpuSample(index=g, sm_mhz=brake[0], throttle=0x20)
                if brake is not None and i < brake[1]
                else GpuSample(index=g, sm_mhz=1980.0, throttle=0)
                for g, brake in enumerate(slowed)
            ),
        )
        for i in range(12)
    )
    # NVML counts devices as it likes: GPU 0 is rank 2's.
    gpus = tuple(
        GpuFacts(index=g, uuid=f"GPU-5A{RANKS - 1 - g}-b7", max_sm_mhz=1980.0) for g in range(RANKS)
    )
    told = Telemetry(node="n", processors=8, gpus=gpus, samples=samples)
    return analyze(replace(run, nodes=(NodeRecord(node="n", facts={}, telemetry=told),)), load)


def test_a_rank_late_because_of_its_gpus_clock_is_throttled() -> None:
    """At half its clock all the time, a GPU can lose 37.5 of 75 ms of compute: all of the 30."""
    analysis = throttled(None, (990.0, 12), None)
    assert [gpu.ranks for gpu in analysis.telemetry[0].gpus] == [(2,), (1,), (0,)]
    found = late_findings(analysis)["straggler_throttling"]
    assert found.title == "Rank 1 is late because its GPU runs at lowered clocks"
    assert found.evidence.endswith(
        "; its GPU ran at 990 of 1,980 MHz in 100% of the samples, slowed by heat or a hardware "
        "brake: that can explain up to 37.5 ms of it"
    )
    assert "nvidia-smi" in found.next_step
    assert found.gain_ceiling == pytest.approx(100 / 70)
    (slowed,) = [f for f in analysis.findings if f.id == "slowed_gpu"]
    assert slowed.ranks == (1,)


@pytest.mark.parametrize(
    ("slowed", "told"),
    [
        ((None, None, None), False),
        (((990.0, 12), (990.0, 12), (990.0, 12)), False),  # all GPUs alike
        ((None, (1782.0, 12), None), True),  # a tenth of the clock: 7.5 of the 30 ms
        (((990.0, 12), None, None), False),  # another rank's GPU
    ],
)
def test_clocks_that_do_not_explain_the_lateness_are_not_its_cause(
    slowed: tuple[tuple[float, int] | None, ...], *, told: bool
) -> None:
    found = late_findings(throttled(*slowed))
    assert set(found) == {"straggler_compute"}
    assert ("MHz" in found["straggler_compute"].evidence) is told

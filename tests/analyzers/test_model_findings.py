"""Findings about optimizer, DDP's options, batches and memory: each fires on its fault."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis, Finding
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, MemorySamples, RankTrace, StepMemory
from tests.builders import (
    MS,
    ORIGIN_NS,
    Item,
    StepItem,
    gloo,
    host,
    kernel,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
)


def by_id(analysis: Analysis) -> dict[str, Finding]:
    return {f.id: f for f in analysis.findings}


def stepping(pieces: int, name: str, *, ms: float = 30.0, device: bool = True) -> Analysis:
    """One step of 100 ms whose optimizer runs `pieces` kernels or operators in its last `ms`."""
    begin, each = 100.0 - ms, ms / pieces
    make = kernel if device else op
    items: list[Item | StepItem] = [
        step(0, at_ms=0, ms=100),
        make("gemm", at_ms=0, ms=begin),
        host(Kind.ANNOTATION, "Optimizer.step#AdamW.step", at_ms=begin, ms=ms),
    ]
    items += [make(name, at_ms=begin + n * each, ms=each) for n in range(pieces)]
    run, load = run_of(rank_trace(*items, device_kind="cuda" if device else "cpu"))
    return analyze(run, load)


@pytest.mark.parametrize("device", [True, False])
def test_an_optimizer_in_many_pieces_wants_fusing(device: bool) -> None:
    found = by_id(stepping(60, "vectorized_elementwise_kernel", device=device))
    finding = found["unfused_optimizer"]
    assert finding.severity == "high"
    assert finding.gain_ceiling == pytest.approx(1 / 0.7)
    assert "60 " in finding.evidence and finding.recipe == "fused-optimizer"


def test_a_fused_or_small_optimizer_is_fine() -> None:
    assert "unfused_optimizer" not in by_id(stepping(60, "FusedAdamMathFunctor_kernel"))
    assert "unfused_optimizer" not in by_id(stepping(60, "aten::_fused_adamw_", device=False))
    assert "unfused_optimizer" not in by_id(stepping(10, "elementwise"))
    assert "unfused_optimizer" not in by_id(stepping(60, "elementwise", ms=1.0))


def two_ranks(computes: Sequence[Sequence[float]], **facts: object) -> Analysis:
    """CPU ranks that compute for the given ms of each 100 ms step and reduce until its end."""
    traces = []
    for rank, own in enumerate(computes):
        items: list[Item | StepItem] = []
        for k, ms in enumerate(own):
            items += [
                step(k, at_ms=100.0 * k, ms=100),
                op("aten::mm", at_ms=100.0 * k, ms=ms),
                gloo("all_reduce", at_ms=100.0 * k + ms, ms=100 - ms, sequence=k + 1),
            ]
        traces.append(rank_trace(*items, rank=rank, world_size=len(computes), device_kind="cpu"))
    run, load = run_of(*traces, facts={r: facts for r in range(len(computes))})
    return analyze(run, load)


def test_parameters_that_are_all_used_need_no_search() -> None:
    logged = {"unused_parameter_size": 0}
    found = by_id(
        two_ranks([[90.0] * 4] * 2, ddp={"find_unused_parameters": True}, ddp_logging=logged)
    )
    assert found["find_unused_parameters"].ranks == (0, 1)
    off = two_ranks([[90.0] * 4] * 2, ddp={"find_unused_parameters": False}, ddp_logging=logged)
    assert "find_unused_parameters" not in by_id(off)
    used = two_ranks(
        [[90.0] * 4] * 2,
        ddp={"find_unused_parameters": True},
        ddp_logging={"unused_parameter_size": 4096},
    )
    assert "find_unused_parameters" not in by_id(used)


def test_batch_norms_that_wait_for_all_ranks_are_named() -> None:
    found = by_id(two_ranks([[98.0] * 4] * 2, ddp_logging={"has_sync_bn": 1}))
    assert found["sync_batch_norm"].severity == "info"
    costly = by_id(two_ranks([[50.0] * 4] * 2, ddp_logging={"has_sync_bn": 1}))
    assert costly["sync_batch_norm"].severity == "moderate"


def test_long_batches_in_turn_are_uneven_and_nobody_is_a_straggler() -> None:
    first = [80.0 if k % 2 == 0 else 40.0 for k in range(12)]
    second = [80.0 if k % 2 == 1 else 40.0 for k in range(12)]
    analysis = two_ranks([first, second])
    found = by_id(analysis)
    assert analysis.stragglers == ()
    finding = found["uneven_compute"]
    assert finding.gain_ceiling == pytest.approx(1 / (1 - 0.40), rel=0.01)  # 80 -> 40 of 100 ms
    assert "67% of the mean" in finding.evidence
    assert not [i for i in found if i.startswith("straggler")]


def test_one_slow_rank_is_a_straggler_and_not_uneven() -> None:
    found = by_id(two_ranks([[40.0] * 12, [80.0] * 12]))
    assert "straggler_compute" in found and "uneven_compute" not in found


def holding(allocated: Sequence[int], *, reserved: int | None = None) -> RankTrace:
    """Steps of 10 ms, each with one record of what is allocated in its middle."""
    items: list[Item | StepItem] = []
    for k in range(len(allocated)):
        items += [step(k, at_ms=10.0 * k, ms=10), op("aten::mm", at_ms=10.0 * k, ms=10)]
    n = len(allocated)
    at = ORIGIN_NS + (10 * np.arange(n, dtype=np.int64) + 5) * MS
    held = np.array(allocated, dtype=np.int64)
    kept = held if reserved is None else np.full(n, reserved, dtype=np.int64)
    samples = MemorySamples(
        at_ns=at, device=np.full(n, NONE, np.int16), allocated_bytes=held, reserved_bytes=kept
    )
    return replace(rank_trace(*items, device_kind="cpu"), memory=samples)


def memory_findings(*allocated: int) -> dict[str, Finding]:
    run, load = run_of(holding(allocated))
    return by_id(analyze(run, load))


@pytest.mark.parametrize(
    ("allocated_gib", "reserved_gib", "told"), [(4, 6, True), (4, 4.5, False), (0.5, 1, False)]
)
def test_reserved_memory_far_above_tensors_is_told(
    allocated_gib: float, reserved_gib: float, *, told: bool
) -> None:
    gib = 1 << 30
    trace = holding([int(allocated_gib * gib)] * 8, reserved=int(reserved_gib * gib))
    run, load = run_of(trace)
    found = by_id(analyze(run, load)).get("memory_fragmentation")
    assert (found is not None) is told
    if found is not None:
        assert found.evidence.startswith("6 GiB reserved at the peak on cpu, 4 GiB allocated")
        assert (found.severity, found.gain_ceiling) == ("info", None)


def retried(retries: list[int] | None) -> Analysis:
    """Two ranks; rank 1's step lines count the allocator's retries, or do not."""
    items: list[Item | StepItem] = [step(k, at_ms=10 * k, ms=10) for k in (0, 1)]
    items.append(kernel("gemm", at_ms=0, ms=10))
    traces = [rank_trace(*items, rank=rank, world_size=2) for rank in (0, 1)]
    level = np.full(2, 1 << 30, np.int64)
    memory = StepMemory(
        index=np.arange(2, dtype=np.int32),
        end_ns=ORIGIN_NS + np.array([10, 20], np.int64) * MS,
        allocated_bytes=level,
        peak_allocated_bytes=level,
        reserved_bytes=level,
        peak_reserved_bytes=level,
        retries=np.array(retries or [NONE, NONE], np.int64),
    )
    run, load = run_of(*traces, lines={1: replace(step_lines([10, 10]), memory=memory)})
    return analyze(run, load)


@pytest.mark.parametrize(
    ("retries", "severity"), [([0, 0], None), ([2, 2], "info"), ([2, 5], "moderate"), (None, None)]
)
def test_retries_of_the_allocator_are_told(retries: list[int] | None, severity: str | None) -> None:
    """Rank 1 of two retried; a run that was not asked says nothing."""
    found = by_id(retried(retries)).get("allocator_retries")
    assert (found.severity if found else None) == severity
    if found is not None:
        assert (found.ranks, found.recipe, found.gain_ceiling) == ((1,), "allocator", None)


def test_memory_that_only_rises_is_a_leak() -> None:
    mib = 1 << 20
    found = memory_findings(*(100 * mib + k * mib for k in range(8)))
    assert "1 MiB more at the end of each step" in found["memory_growth"].evidence
    level = [100 * mib + (k % 2) * mib for k in range(8)]
    assert "memory_growth" not in memory_findings(*level)
    assert "memory_growth" not in memory_findings(*(100 * mib + k for k in range(8)))
    assert "memory_growth" not in memory_findings(*(100 * mib + k * mib for k in range(4)))

"""Each rule fires on the fault it names, with its share as the bound, and on nothing else."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis, Finding
from perfkit.analyzers.stragglers import by_chance
from perfkit.trace.model import DeviceFacts, RankTrace
from tests.analyzers.test_slow_loader import cpu_rank
from tests.builders import (
    Item,
    StepItem,
    alloc,
    compiling,
    gc_pause,
    gloo,
    h2d,
    input_wait,
    kernel,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
    sync,
)


def one_step(*items: Item, device_kind: str = "cuda") -> RankTrace:
    contents: list[Item | StepItem] = [step(0, at_ms=0, ms=100), *items]
    return rank_trace(*contents, device_kind=device_kind)


def analysed(*traces: RankTrace) -> Analysis:
    run, load = run_of(*traces)
    return analyze(run, load)


def findings(*traces: RankTrace) -> dict[str, Finding]:
    return {f.id: f for f in analysed(*traces).findings}


def busy(*but: tuple[float, float]) -> list[Item]:
    """Kernels over [0, 100) ms except the given gaps; each was enqueued long before."""
    items, at = [], 0.0
    for start, end in (*but, (100.0, 100.0)):
        if start > at:
            items.append(kernel("gemm", at_ms=at, ms=start - at))
        at = end
    return items


def test_a_healthy_device_has_no_findings() -> None:
    assert findings(one_step(*busy())) == {}


def test_a_healthy_cpu_run_has_no_findings() -> None:
    assert findings(one_step(op("aten::mm", at_ms=0, ms=99), device_kind="cpu")) == {}


def test_python_between_operators_bounds_a_cpu_run() -> None:
    found = findings(
        one_step(op("aten::mm", at_ms=0, ms=50), op("aten::mm", at_ms=80, ms=20), device_kind="cpu")
    )
    assert set(found) == {"host_bound"}
    assert found["host_bound"].gain_ceiling == pytest.approx(100 / 70)


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (input_wait(at_ms=40, ms=20), "slow_loader"),
        (sync(at_ms=40, ms=20), "host_syncs"),
        (alloc(at_ms=40, ms=20), "allocator"),
        (gc_pause(at_ms=40, ms=20), "gc_pauses"),
        (compiling(at_ms=40, ms=20), "recompiles"),
        (op("aten::add", at_ms=40, ms=20), "launch_bound"),
    ],
)
def test_idle_devices_name_their_cause(item: Item, rule: str) -> None:
    found = findings(one_step(*busy((40, 60)), item))
    assert set(found) == {rule}
    assert found[rule].severity == "high"
    assert found[rule].gain_ceiling == pytest.approx(1 / 0.8)
    assert found[rule].next_step and found[rule].evidence


def test_small_shares_are_no_finding() -> None:
    assert findings(one_step(*busy((40, 42)), input_wait(at_ms=40, ms=2))) == {}


def test_pageable_copies_are_told_from_pinned_ones() -> None:
    for pageable, rule in ((True, "pageable_copies"), (False, "exposed_copies")):
        found = findings(one_step(*busy((40, 60)), h2d(at_ms=40, ms=20, pageable=pageable)))
        assert set(found) == {rule}


def test_fp32_matmuls_need_hardware_that_could_do_better() -> None:
    def on(capability: str, name: str) -> dict[str, Finding]:
        facts = DeviceFacts(index=0, name="GPU", compute_capability=capability)
        trace = one_step(kernel(name, at_ms=0, ms=50), kernel("add", at_ms=50, ms=50))
        return findings(replace(trace, devices=(facts,)))

    found = on("8.0", "ampere_sgemm_128x64_tn")
    assert set(found) == {"fp32_matmul"}
    assert found["fp32_matmul"].gain_ceiling == pytest.approx(1 / (1 - 0.5 * 7 / 8))
    assert on("7.0", "volta_sgemm_128x64_tn") == {}
    assert on("9.0", "sm80_xmma_gemm_f32f32_tf32f32_f32_tn") == {}
    assert on("", "ampere_sgemm_128x64_tn") == {}


def reducing(
    *, compute_ms: float, comm_ms: float, hidden_ms: float = 0.0, calls: int = 1, elements: int
) -> tuple[RankTrace, RankTrace]:
    """Two equal CPU ranks: compute, then reductions that overlap its end by hidden_ms."""
    made = []
    for rank in (0, 1):
        items: list[Item | StepItem] = [op("aten::mm", at_ms=0, ms=compute_ms)]
        begin, each = compute_ms - hidden_ms, comm_ms / calls
        items += [
            gloo("all_reduce", at_ms=begin + n * each, ms=each, elements=elements, sequence=n + 1)
            for n in range(calls)
        ]
        total = compute_ms + comm_ms - hidden_ms
        items.append(step(0, at_ms=0, ms=total))
        made.append(rank_trace(*items, rank=rank, world_size=2, device_kind="cpu"))
    return made[0], made[1]


def test_missing_overlap_promises_no_more_than_the_free_compute() -> None:
    found = findings(*reducing(compute_ms=80, comm_ms=20, elements=10**7))
    assert set(found) == {"no_overlap"}
    assert found["no_overlap"].gain_ceiling == pytest.approx(1 / 0.8)
    assert "DistributedDataParallel" in found["no_overlap"].next_step
    small = findings(*reducing(compute_ms=80, comm_ms=20, elements=1000))
    assert "few bytes" in small["no_overlap"].next_step


def test_transfers_that_compute_cannot_hide_need_fewer_bytes() -> None:
    found = findings(*reducing(compute_ms=2, comm_ms=98, elements=10**7))
    assert set(found) == {"slow_transfers"}
    assert found["slow_transfers"].gain_ceiling == pytest.approx(1 / 0.02)


def test_overlapped_transfers_are_no_finding() -> None:
    assert findings(*reducing(compute_ms=80, comm_ms=20, hidden_ms=20, elements=10**7)) == {}


def test_communication_of_a_single_rank_is_unsplit() -> None:
    found = findings(reducing(compute_ms=80, comm_ms=20, elements=10**7)[0])
    assert set(found) == {"unsplit_communication"}


def test_tiny_messages_are_counted() -> None:
    found = findings(*reducing(compute_ms=50, comm_ms=50, calls=25, elements=100))
    assert "tiny_messages" in found
    assert "25 collectives per step of 400 B" in found["tiny_messages"].evidence


def test_one_bucket_for_everything_is_huge() -> None:
    found = findings(*reducing(compute_ms=60, comm_ms=40, elements=50_000_000))
    assert "huge_bucket" in found


def one_of_three_late(in_steps: Iterable[int], steps: int = 6) -> list[RankTrace]:
    """Three CPU ranks that compute for 40 of 100 ms; rank 1 computes for 80 ms in some steps."""
    made = []
    for rank in range(3):
        items: list[Item | StepItem] = []
        for k in range(steps):
            ms = 80.0 if rank == 1 and k in in_steps else 40.0 + rank
            items.append(step(k, at_ms=100 * k, ms=100))
            items.append(op("aten::mm", at_ms=100 * k, ms=ms))
            items.append(gloo("all_reduce", at_ms=100 * k + ms, ms=100 - ms, sequence=k + 1))
        made.append(rank_trace(*items, rank=rank, world_size=3, device_kind="cpu"))
    return made


def test_being_last_now_and_then_is_no_straggler() -> None:
    """Rank 1 is late in 3 of 6 steps: three equal ranks show that in one run of three."""
    analysis = analysed(*one_of_three_late((0, 2, 4)))
    assert analysis.stragglers == ()
    assert not [f for f in analysis.findings if f.id.startswith("straggler")]
    assert "for rank" not in analysis.verdict.sentence
    assert "none of them late more often than chance allows" in analysis.verdict.sentence


def test_chance() -> None:
    assert by_chance(5, 8, 2) == pytest.approx(93 / 256)
    assert by_chance(0, 8, 2) == pytest.approx(1.0)
    assert by_chance(8, 8, 2) == pytest.approx(1 / 256)


def test_a_straggler_is_bounded_by_what_the_others_wait() -> None:
    analysis = analysed(*one_of_three_late(range(6)))
    (straggler,) = analysis.stragglers
    assert (straggler.rank, straggler.class_, straggler.excess_ms) == (1, "compute", 38.0)
    assert straggler.share_of_steps == 1.0
    found = next(f for f in analysis.findings if f.id == "straggler_compute")
    assert found.ranks == (1,)
    assert found.gain_ceiling == pytest.approx(100 / (100 - 39))


def test_equal_ranks_have_no_straggler() -> None:
    analysis = analysed(cpu_rank(0, slow=True), cpu_rank(1, slow=True))
    assert analysis.stragglers == ()
    assert analysis.verdict.label == "io"
    assert "ranks 0 and 1 wait 70.0 ms of each 100 ms step" in analysis.verdict.sentence


def test_unexplained_slow_steps_are_a_finding() -> None:
    ms = [100.0] * 60
    for k in range(15, 60, 9):
        ms[k] = 400.0
    run, load = run_of(cpu_rank(0, slow=False), lines={0: step_lines(ms, profiled=range(12))})
    found = {f.id: f for f in analyze(run, load).findings}
    assert "every 9 steps" in found["slow_steps"].evidence
    assert "--window" in found["slow_steps"].next_step


def test_findings_come_most_costly_first() -> None:
    trace = one_step(
        *busy((10, 40), (60, 70)), input_wait(at_ms=10, ms=30), op("aten::add", at_ms=60, ms=10)
    )
    found = analysed(trace).findings
    assert [f.id for f in found] == ["slow_loader", "launch_bound"]
    assert [f.severity for f in found] == ["high", "moderate"]

"""One rank's slow loader: the verdict is io, the blame is on it, and nobody else is accused.

The case that defeats others: rank 0 sees it only as a long all-reduce.
"""

import pytest

from perfkit.analyzers.analysis import analyze, encode
from perfkit.analyzers.result import Analysis
from perfkit.trace.model import RankTrace
from tests.builders import (
    Item,
    StepItem,
    gloo,
    input_wait,
    kernel,
    nccl,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
)

STEP_MS, SLOW_MS, QUICK_MS = 100.0, 70.0, 1.0


def cpu_rank(rank: int, *, slow: bool, clock_ms: float = 0.0, steps: int = 12) -> RankTrace:
    """Fetch, compute 15 ms, reduce until 95 ms into the step; a slow loader fetches for 70 ms."""
    items: list[Item | StepItem] = []
    for k in range(steps):
        t, wait = k * STEP_MS, SLOW_MS if slow else QUICK_MS
        arrival = t + wait + 15
        items += [
            step(k, at_ms=t, ms=STEP_MS),
            input_wait(at_ms=t, ms=wait),
            op("aten::mm", at_ms=t + wait, ms=15),
            gloo("all_reduce", at_ms=arrival, ms=t + 95 - arrival, sequence=k + 1),
            op("aten::add_", at_ms=t + 95, ms=5),
        ]
    domain = f"clock {clock_ms}"
    return rank_trace(
        *items,
        rank=rank,
        world_size=2,
        device_kind="cpu",
        clock_ms=clock_ms,
        clock_domain=domain,
    )


def gpu_rank(rank: int, *, slow: bool, clock_ms: float = 0.0, steps: int = 12) -> RankTrace:
    """The same on a device, whose work is launched as it starts; one more step ends the last."""
    items: list[Item | StepItem] = []
    for k in range(steps + 1):
        t, wait = k * STEP_MS, SLOW_MS if slow else QUICK_MS
        arrival = t + wait + 15
        items += [
            step(k, at_ms=t, ms=STEP_MS),
            input_wait(at_ms=t, ms=wait),
            kernel("gemm", at_ms=t + wait, ms=15),
            nccl("all_reduce", at_ms=arrival, ms=t + 95 - arrival, sequence=k + 1),
            kernel("adam", at_ms=t + 95, ms=5),
        ]
    return rank_trace(
        *items, rank=rank, world_size=2, clock_ms=clock_ms, clock_domain=f"clock {clock_ms}"
    )


def analysed(make: object, clock_ms: float) -> Analysis:
    assert callable(make)
    run, load = run_of(make(0, slow=False), make(1, slow=True, clock_ms=clock_ms))
    return analyze(run, load)


@pytest.mark.parametrize("make", [cpu_rank, gpu_rank])
@pytest.mark.parametrize("clock_ms", [0.0, 5.0, -5.0, 300.0])
def test_the_loader_of_rank_1_is_named(make: object, clock_ms: float) -> None:
    analysis = analysed(make, clock_ms)
    verdict = analysis.verdict
    assert verdict.label == "io"
    assert not verdict.tentative
    assert verdict.confidence is not None and verdict.confidence >= 0.95
    blame = verdict.blame[0]
    assert (blame.rank, blame.class_) == (1, "input_wait")
    assert sum(b.ms for b in verdict.blame if b.rank == 0) == 0
    assert verdict.rollup_after_blame["communication"] < 0.15
    assert verdict.sentence.startswith("Input-bound: rank 1 waits 70.0 ms of each 100 ms step")
    assert "rank 0 waits for rank 1 in all_reduce because of its data loader" in verdict.sentence
    loader = next(f for f in analysis.findings if f.id == "slow_loader")
    assert loader.ranks == (1,)
    assert [s.rank for s in analysis.stragglers] == [1]
    assert analysis.stragglers[0].class_ == "input_wait"


@pytest.mark.parametrize("make", [cpu_rank, gpu_rank])
def test_raw_budget_still_shows_the_wait(make: object) -> None:
    analysis = analysed(make, 0.0)
    wait = analysis.budget.per_rank[0].classes["comm_wait"]
    assert wait is not None and wait.ms == pytest.approx(69.0)
    late = analysis.budget.per_rank[1].classes["comm_wait"]
    assert late is not None and late.ms == 0.0


@pytest.mark.parametrize("make", [cpu_rank, gpu_rank])
def test_clocks_change_nothing_but_the_clock_rows(make: object) -> None:
    still, shifted = analysed(make, 0.0), analysed(make, 5.0)
    assert still.verdict == shifted.verdict
    assert still.budget == shifted.budget
    assert still.collectives == shifted.collectives
    assert [c.offset_us for c in shifted.clock] == [0.0, -5000.0]


def test_gain_stays_under_the_ceiling_when_the_stall_is_removed() -> None:
    """Without the slow loader the step would take 31 ms: a speed-up of 100 / 31."""
    analysis = analysed(cpu_rank, 0.0)
    loader = next(f for f in analysis.findings if f.id == "slow_loader")
    assert loader.gain_ceiling is not None
    without = STEP_MS - (SLOW_MS - QUICK_MS)
    assert loader.gain_ceiling >= 0.9 * STEP_MS / without
    straggler = next(f for f in analysis.findings if f.id == "straggler_input_wait")
    assert straggler.gain_ceiling is not None
    assert straggler.gain_ceiling <= loader.gain_ceiling


def test_the_same_input_gives_the_same_bytes() -> None:
    assert encode(analysed(cpu_rank, 5.0)) == encode(analysed(cpu_rank, 5.0))


def test_step_lines_alone_name_the_loader_only_if_nothing_else_could_win() -> None:
    records = run_of(
        cpu_rank(0, slow=True),
        lines={0: step_lines([100.0] * 30, input_ms=70.0)},
    )[0]
    bare = records.ranks[0]
    from dataclasses import replace

    run = replace(records, ranks=(replace(bare, traces=(), world_size=1),))

    def never(_: object) -> RankTrace:
        raise AssertionError("there is no trace to load")

    analysis = analyze(run, never)
    assert (analysis.verdict.label, analysis.verdict.tentative) == ("io", True)
    assert analysis.budget.per_rank == ()
    slower = replace(run.ranks[0], lines=step_lines([100.0] * 30, input_ms=30.0))
    analysis = analyze(replace(run, ranks=(slower,)), never)
    assert (analysis.verdict.label, analysis.verdict.reason) == ("undetermined", "no_trace")
    assert set(analysis.budget.classes.values()) == {None}  # not known, which zero is not
    assert analysis.budget.rollup == {}
    assert "perfkit profile --window 5:14 -- CMD" in analysis.verdict.sentence
    (limit,) = analysis.quality.cannot_tell
    assert limit.remedy.endswith("perfkit profile --window 5:14 -- CMD")
    short = replace(run.ranks[0], lines=step_lines([100.0] * 8, input_ms=30.0))
    analysis = analyze(replace(run, ranks=(short,)), never)
    assert "perfkit profile --window 1:6 -- CMD" in analysis.verdict.sentence
    (limit,) = analysis.quality.cannot_tell
    assert limit.remedy.endswith("perfkit profile --window 1:6 -- CMD")

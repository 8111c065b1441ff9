"""Transfers that a late rank leaves exposed on the others are charged to its lateness.

Two ranks; a gradient bucket of 20 ms can be hidden under the second half of the backward pass. On
time, 5 ms of it stand out. Rank 1 fetches for 30 ms longer: rank 0 then has nothing left to compute
when the transfer runs, and all 20 ms stand out there, as before on rank 1 only 5 ms do.
"""

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis
from perfkit.trace.model import RankTrace
from tests.builders import Item, StepItem, input_wait, kernel, nccl, rank_trace, run_of, step

FETCH_MS, HALF_MS, TRANSFER_MS, TAIL_MS, STEPS = 1.0, 15.0, 20.0, 4.0, 12


def one_rank(rank: int, late_ms: float, step_ms: float) -> RankTrace:
    """Fetch, compute one half, start the transfer, compute the other, update when both ended."""
    items: list[Item | StepItem] = []
    transfer_ms = FETCH_MS + late_ms + HALF_MS  # when the later rank comes
    for k in range(STEPS + 1):
        begin = k * step_ms
        fetch = FETCH_MS + (late_ms if rank == 1 else 0.0)
        ready = begin + fetch + HALF_MS
        end = begin + transfer_ms + TRANSFER_MS
        items += [
            step(k, at_ms=begin, ms=step_ms, has_eval=k == 0),  # not analysed: all met before
            input_wait(at_ms=begin, ms=fetch),
            kernel("gemm", at_ms=begin + fetch, ms=HALF_MS),
            nccl("all_reduce", at_ms=ready, ms=end - ready, sequence=k + 1),
            kernel("gemm", at_ms=ready, ms=HALF_MS),
            kernel("adam", at_ms=end, ms=TAIL_MS),
        ]
    return rank_trace(*items, rank=rank, world_size=2)


def analysed(late_ms: float) -> tuple[Analysis, float]:
    step_ms = FETCH_MS + late_ms + HALF_MS + TRANSFER_MS + TAIL_MS
    run, load = run_of(*(one_rank(r, late_ms, step_ms) for r in (0, 1)))
    return analyze(run, load), step_ms


def test_on_time_the_natural_exposure_is_communication() -> None:
    analysis, step_ms = analysed(0.0)
    shares = analysis.verdict.rollup_after_blame
    assert shares["communication"] == pytest.approx(5 / step_ms)
    assert not analysis.stragglers


@pytest.mark.parametrize("late_ms", [6.0, 30.0])
def test_lost_overlap_counts_for_the_late_loader(late_ms: float) -> None:
    """Without the lateness the step is late_ms shorter: that is what io costs, no more, no less."""
    analysis, step_ms = analysed(late_ms)
    shares = analysis.verdict.rollup_after_blame
    before = analysis.budget.rollup
    assert shares["communication"] == pytest.approx(5 / step_ms, abs=1e-6)
    assert shares["io"] == pytest.approx((FETCH_MS + late_ms) / step_ms, abs=1e-6)
    assert before["communication"] is not None
    assert before["communication"] > 5.5 / step_ms  # rank 0 waits, and its transfer stands out
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_ceiling_of_the_straggler_holds_when_it_is_removed() -> None:
    """The late rank's finding bounds the speed-up that its removal really brings."""
    late, slow_ms = analysed(30.0)
    _, quick_ms = analysed(0.0)
    (found,) = [f for f in late.findings if f.id == "straggler_input_wait"]
    assert found.gain_ceiling is not None
    assert slow_ms / quick_ms <= found.gain_ceiling + 1e-9
    assert [(s.rank, s.class_, s.excess_ms) for s in late.stragglers] == [(1, "input_wait", 30.0)]

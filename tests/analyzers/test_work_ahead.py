"""A rank that waits in one bucket computes ahead of the others; later buckets accuse nobody.

Rank 1 fetches its batch 60 ms late. Rank 0 has entered the first bucket by then and goes on with
its backward pass beside it; when rank 1 arrives, it still has all that compute before it.
"""

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.trace.model import RankTrace
from tests.builders import Item, StepItem, input_wait, kernel, nccl, rank_trace, run_of, step

STEP_MS, LATE_MS, STEPS = 130.0, 60.0, 12


def rank(number: int, *, late: float) -> RankTrace:
    """Forward 10 ms, three buckets of 10 ms of backward each, 2 ms to reduce one, then Adam."""
    items: list[Item | StepItem] = []
    for k in range(STEPS + 1):
        t, mine = k * STEP_MS, late
        items += [step(k, at_ms=t, ms=STEP_MS), input_wait(at_ms=t, ms=mine)]
        items.append(kernel("forward", at_ms=t + mine, ms=10))
        free = 0.0
        for bucket in range(3):
            ready = 20 + 10 * bucket
            items.append(kernel("backward", at_ms=t + mine + ready - 10, ms=10))
            start = max(t + mine + ready, free)
            free = max(t + LATE_MS + ready, free) + 2
            items.append(
                nccl("all_reduce", at_ms=start, ms=free - start, sequence=3 * k + bucket + 1)
            )
        items.append(kernel("adam", at_ms=free, ms=5))
    return rank_trace(*items, rank=number, world_size=2)


def test_all_waiting_is_charged_to_the_loader() -> None:
    run, load = run_of(rank(0, late=0.0), rank(1, late=LATE_MS))
    analysis = analyze(run, load)
    wait = analysis.budget.per_rank[0].classes["comm_wait"]
    assert wait is not None and wait.ms == pytest.approx(56, rel=0.05)
    loader, *others = analysis.verdict.blame
    assert (loader.rank, loader.class_) == (1, "input_wait")
    assert loader.ms > 0.9 * wait.ms / 2  # a mean over both ranks
    assert all(b.class_ != "compute" for b in others if b.ms > 0.02 * wait.ms)

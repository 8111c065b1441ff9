"""Golden example A of the reference (two ranks, window [0, 100) ms): a straggler with I/O.

Its step covers exactly the window, so the trace has one step and the host's step is the window.
"""

from perfkit.trace.model import RankTrace
from tests.builders import checkpoint, h2d, input_wait, kernel, nccl, rank_trace, step


def rank0(**facts: object) -> RankTrace:
    return rank_trace(
        step(0, at_ms=0, ms=100),
        input_wait(at_ms=0, ms=10),
        h2d(at_ms=10, ms=2),
        kernel("gemm", at_ms=12, ms=48),
        nccl("all_reduce", at_ms=40, ms=30, elements=1 << 20),
        kernel("adam", at_ms=70, ms=10),
        kernel("late", at_ms=85, ms=10),
        checkpoint(at_ms=95, ms=5),
        rank=0,
        world_size=2,
        **facts,  # type: ignore[arg-type]
    )


def rank1(**facts: object) -> RankTrace:
    return rank_trace(
        step(0, at_ms=0, ms=100),
        kernel("gemm", at_ms=2, ms=60),
        nccl("all_reduce", at_ms=65, ms=5, elements=1 << 20),
        kernel("adam", at_ms=70, ms=10),
        kernel("late", at_ms=85, ms=10),
        checkpoint(at_ms=95, ms=5),
        rank=1,
        world_size=2,
        **facts,  # type: ignore[arg-type]
    )

"""Synthetic runs whose every step is known, and so is the step under any change."""

from collections.abc import Callable

from perfkit.trace.model import RankRecord, RankTrace, Run
from tests.builders import (
    Item,
    StepItem,
    comm_call,
    gloo,
    input_wait,
    kernel,
    nccl,
    op,
    rank_trace,
    run_of,
    step,
    sync,
)

Loaded = tuple[Run, Callable[[RankRecord], RankTrace]]
STEPS = 4
INPUT_MS = (10.0, 2.0)
FORWARD_MS = (20.0, 24.0)
TRANSFER_MS = 12.0
OPTIMIZER_MS = 5.0
CALL_MS = 0.05


def cpu_step_ms(
    *,
    input_ms: tuple[float, float] = INPUT_MS,
    forward_ms: tuple[float, float] = FORWARD_MS,
    transfer_ms: float = TRANSFER_MS,
    optimizer_ms: float = OPTIMIZER_MS,
) -> float:
    """Return the step of `cpu_run` under other durations, by hand."""
    ready = max(i + f for i, f in zip(input_ms, forward_ms, strict=True)) + CALL_MS
    return ready + transfer_ms + optimizer_ms


def cpu_run(*, clock_ms: float = 0.0, record_ms: float = 0.0) -> Loaded:
    """Two ranks: input, forward, a blocking all-reduce on a gloo thread, optimizer; no overlap.

    `record_ms`: how long after the training thread has gone on the transfer's record closes.
    """
    length = cpu_step_ms()
    ranks = []
    for rank in range(2):
        items: list[Item | StepItem] = []
        for k in range(STEPS):
            at = k * length
            call = at + INPUT_MS[rank] + FORWARD_MS[rank]
            last = at + max(i + f for i, f in zip(INPUT_MS, FORWARD_MS, strict=True)) + CALL_MS
            items += [
                step(k, at_ms=at, ms=length),
                input_wait(at_ms=at, ms=INPUT_MS[rank]),
                op("aten::mm", at_ms=at + INPUT_MS[rank], ms=FORWARD_MS[rank]),
                comm_call(at_ms=call, ms=CALL_MS),
                gloo(
                    "all_reduce",
                    at_ms=call + CALL_MS,
                    ms=last + TRANSFER_MS - call - CALL_MS + record_ms,
                    sequence=k,
                    elements=1_000_000,
                ),
                op("aten::add_", at_ms=last + TRANSFER_MS, ms=OPTIMIZER_MS),
            ]
        ranks.append(
            rank_trace(
                *items,
                rank=rank,
                world_size=2,
                device_kind="cpu",
                clock_ms=rank * clock_ms,
                clock_domain=f"boot-{rank}",
            )
        )
    return run_of(*ranks)


HOST_MS = 2.0
TAIL_MS = 0.5
KERNEL_MS = (20.0, 24.0)


def gpu_step_ms(
    *,
    host_ms: float = HOST_MS,
    kernel_ms: tuple[float, float] = KERNEL_MS,
    transfer_ms: float = TRANSFER_MS,
    optimizer_ms: float = OPTIMIZER_MS,
    tail_ms: float = TAIL_MS,
) -> float:
    """Return the step of `gpu_run` under other durations, by hand."""
    return host_ms + max(kernel_ms) + transfer_ms + optimizer_ms + tail_ms


def gpu_run(*, late_ms: float = 0.0) -> Loaded:
    """Two ranks: the host launches a kernel, an all-reduce behind it and an update, then waits.

    `late_ms`: how long the kernel of rank 1 starts late, for no reason that the trace shows.
    """
    length = gpu_step_ms() + late_ms
    ranks = []
    for rank in range(2):
        items: list[Item | StepItem] = []
        for k in range(STEPS):
            begin = k * length + HOST_MS
            first = begin + (late_ms if rank == 1 else 0.0)
            joined = begin + late_ms + max(KERNEL_MS)
            done = joined + TRANSFER_MS + OPTIMIZER_MS
            own = first + KERNEL_MS[rank]
            items += [
                step(k, at_ms=k * length, ms=length),
                op("aten::mm", at_ms=k * length, ms=HOST_MS + 0.1),
                kernel("sgemm", at_ms=first, ms=KERNEL_MS[rank], launched_at_ms=begin),
                nccl(
                    "all_reduce",
                    at_ms=own,
                    ms=joined + TRANSFER_MS - own,
                    sequence=k,
                    launched_at_ms=begin + 0.02,
                    elements=1_000_000,
                ),
                kernel(
                    "adam",
                    at_ms=joined + TRANSFER_MS,
                    ms=OPTIMIZER_MS,
                    launched_at_ms=begin + 0.04,
                ),
                sync(at_ms=begin + 0.1, ms=done - begin - 0.1),
            ]
        ranks.append(rank_trace(*items, rank=rank, world_size=2))
    return run_of(*ranks)

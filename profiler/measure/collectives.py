"""Child process, one per rank: time collectives by size; rank 0 prints JSON.

Joins the group that torchrun's environment names (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT). Sizes are S of nccl-tests. Times are the slowest rank's: each round is a mean over
back-to-back calls, as in nccl-tests, and the median round counts.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

SMALLEST = 1 << 10
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """Largest message and time per size."""

    largest: int
    seconds_per_size: float

    @classmethod
    def of(cls, *, quick: bool, on_device: bool) -> "Plan":
        """Small and short when quick or over sockets; up to 1 GiB between devices."""
        if quick:
            return cls(16 << 20, 0.4)
        return cls(1 << 30 if on_device else 128 << 20, 2.0)


def _all_reduce(size: int, device: torch.device) -> Callable[[], object]:
    data = torch.zeros(size // 4, device=device)
    return lambda: dist.all_reduce(data)


def _all_gather(size: int, device: torch.device) -> Callable[[], object]:
    ranks = dist.get_world_size()
    part = torch.zeros(size // 4 // ranks, device=device)
    whole = torch.zeros(part.numel() * ranks, device=device)
    return lambda: dist.all_gather_into_tensor(whole, part)


def _reduce_scatter(size: int, device: torch.device) -> Callable[[], object]:
    ranks = dist.get_world_size()
    part = torch.zeros(size // 4 // ranks, device=device)
    whole = torch.zeros(part.numel() * ranks, device=device)
    return lambda: dist.reduce_scatter_tensor(part, whole)


COLLECTIVES = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
}


def sweep(plan: Plan, device: torch.device) -> list[dict[str, Any]]:
    """Every collective that the backend knows, over every size."""
    found = []
    for name, make in COLLECTIVES.items():
        try:
            points = _points(make, plan, device)
        except RuntimeError as error:  # this backend lacks the collective
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        found.append({"collective": name, "points": points})
    return found


def _points(
    make: Callable[[int, torch.device], Callable[[], object]], plan: Plan, device: torch.device
) -> list[dict[str, Any]]:
    points = []
    size, largest = SMALLEST, min(plan.largest, _room(device))
    while size <= largest:
        seconds = _seconds(make(size, device), plan, device)
        points.append({"bytes": size, "seconds": seconds})
        size *= 4
    return points


def _room(device: torch.device) -> int:
    """A quarter of the least free memory of any rank: a rank that fails alone stops the others."""
    if device.type != "cuda":
        return sys.maxsize
    free = torch.tensor([torch.cuda.mem_get_info(device)[0]], device=device)
    dist.all_reduce(free, op=dist.ReduceOp.MIN)
    return int(free.item()) // 4


def _seconds(call: Callable[[], object], plan: Plan, device: torch.device) -> float:
    """Median round of the slowest rank; all ranks make the same number of calls."""
    for _ in range(5):
        call()
    one = _slowest([_round(call, 3, device)], device)[0]
    calls = min(200, max(4, int(plan.seconds_per_size / ROUNDS / one)))
    rounds = _slowest([_round(call, calls, device) for _ in range(ROUNDS)], device)
    return statistics.median(rounds)


def _round(call: Callable[[], object], calls: int, device: torch.device) -> float:
    dist.barrier()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / calls


def _slowest(seconds: list[float], device: torch.device) -> list[float]:
    shared = torch.tensor(seconds, dtype=torch.float64, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return [float(value) for value in shared.tolist()]


def _device() -> torch.device:
    """A device of its own for this rank, else the CPU: NCCL refuses two ranks on one device."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and torch.cuda.device_count() > local:
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if torch.cuda.device_count() >= per_node:
            torch.cuda.set_device(local)
            return torch.device("cuda", local)
    return torch.device("cpu")


def main() -> None:
    """Join, measure, let rank 0 print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = _device()
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.set_num_threads(1)
    # With a device named, NCCL connects at once and no collective has to guess it.
    dist.init_process_group(backend, device_id=device if device.type == "cuda" else None)
    try:
        plan = Plan.of(quick=options.quick, on_device=device.type == "cuda")
        found = sweep(plan, device)
        world = dist.get_world_size()
        local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
        if dist.get_rank() == 0:
            facts = {"backend": backend, "ranks": world, "nodes": max(1, world // local)}
            json.dump({**facts, "sweeps": found}, sys.stdout)
            sys.stdout.flush()
        dist.barrier()
    finally:
        dist.destroy_process_group()
        time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

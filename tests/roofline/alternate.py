"""Run as a program: measure a ceiling and profile the same operator, turn by turn, in one process.

Prints {"mm": [[ceiling, achieved, share], ...], "copy": ...}: FLOP/s and bytes/s, one entry a
round, and the share of its threads' time that the process spent on a processor in that round: less
than all of it where other programs took one away.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from perfkit.profiler.measure.timing import Effort, HostDevice, take
from perfkit.roofline.place import Point, place
from perfkit.trace.kineto import read_kineto
from tests.roofline.machines import roofs

SIDE = 2048
COPIED = 1 << 26  # fp32 elements: 256 MiB
ROUNDS = 11


class Watched:
    """A call whose time on the clock and on processors is summed up."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run, self.wall_s, self.processor_s = run, 0.0, 0.0

    def __call__(self) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        self.run()
        self.processor_s += time.process_time() - processor
        self.wall_s += time.perf_counter() - wall

    @property
    def share(self) -> float:
        """Of the time that all threads could have spent on processors."""
        return self.processor_s / (self.wall_s * torch.get_num_threads())


def operator(run: Callable[[], object], name: str) -> Point:
    """The profiled operator, as a run of perfkit would place it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
            for _ in range(3):
                run()
        recorded.export_chrome_trace(str(path))
        placement = place(read_kineto(path), roofs())
    return next(point for point in placement.points if point.name == name)


def main() -> None:
    """Alternate."""
    effort = Effort(repeats=5, budget_s=0.2, sustained_s=0)
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    source, target = torch.rand(COPIED), torch.empty(COPIED)
    found: dict[str, list[tuple[float, float, float]]] = {"mm": [], "copy": []}
    for _ in range(ROUNDS):
        product = Watched(lambda: torch.mm(left, right))
        taken = take(HostDevice(), product, effort)
        point = operator(product, "aten::mm")
        reached = point.achieved_flop_per_s
        found["mm"].append((2 * SIDE**3 / taken.median_s, reached, product.share))
        copy = Watched(lambda: target.copy_(source))
        taken = take(HostDevice(), copy, effort)
        point = operator(copy, "aten::copy_")
        reached = point.achieved_bytes_per_s
        found["copy"].append((8 * COPIED / taken.median_s, reached, copy.share))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

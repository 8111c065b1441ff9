"""Run as a program: measure a ceiling and profile the same operator, turn by turn, in one process.

Prints {"mm": [[ceiling, achieved], ...], "copy": ...}, FLOP/s and bytes/s, one pair a round.
"""

import json
import sys
import tempfile
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
    found: dict[str, list[tuple[float, float]]] = {"mm": [], "copy": []}
    for _ in range(ROUNDS):
        taken = take(HostDevice(), lambda: torch.mm(left, right), effort)
        point = operator(lambda: torch.mm(left, right), "aten::mm")
        found["mm"].append((2 * SIDE**3 / taken.median_s, point.achieved_flop_per_s))
        taken = take(HostDevice(), lambda: target.copy_(source), effort)
        point = operator(lambda: target.copy_(source), "aten::copy_")
        found["copy"].append((8 * COPIED / taken.median_s, point.achieved_bytes_per_s))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

"""A small training that states its own processor time; run by bench_overhead.py.

Usage: overhead_probe.py loop|window none|torch
"""

import json
import os
import resource
import sys
import tempfile
import time

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

LOOP_STEPS = 4000
FIRST, LAST, STEPS = 10, 19, 24  # perfkit's default window; profiling starts one step early


def always_on() -> dict[str, float]:
    """Return processor time per step, us, of a loop that does next to nothing."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    batches = iter(DataLoader(TensorDataset(torch.zeros(LOOP_STEPS + 100, 1)), batch_size=None))
    for step in range(LOOP_STEPS + 100):
        if step == 100:
            begun = time.process_time_ns()
        next(batches)
        optimizer.step()
    return {"cpu_us_per_step": (time.process_time_ns() - begun) / 1e3 / LOOP_STEPS}


def window(profiler: str) -> dict[str, float]:
    """Return processor time of the profiled steps with stop and export, and the longest step."""
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(64, 4, 128, batch_first=True) for _ in range(6)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    batch = torch.randn(8, 32, 64)
    own = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
    steps = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(STEPS):
            begun = time.perf_counter_ns()
            if step == FIRST - 1 and profiler == "torch":
                own.start()
            model(batch).square().mean().backward()
            if step == FIRST - 2:  # perfkit starts as this step returns
                before = time.process_time_ns()
            optimizer.step()
            optimizer.zero_grad()
            if step == LAST and profiler == "torch":
                own.stop()
                own.export_chrome_trace(f"{folder}/trace.json")
            if step == LAST:
                spent = time.process_time_ns() - before
            steps.append((time.perf_counter_ns() - begun) / 1e6)
        size = os.path.getsize(f"{folder}/trace.json") if profiler == "torch" else 0
    return {
        "cpu_ms": spent / 1e6,
        "longest_step_ms": max(steps[FIRST:]),
        "bytes_per_step": size / (LAST - FIRST + 2),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(always_on() if sys.argv[1] == "loop" else window(sys.argv[2])))

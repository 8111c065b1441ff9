"""Times a training from outside, by torch's own hook, without perfkit: prints its median step.

    python stopwatch.py 20 train.py --steps 60

The first rank prints `step_ms 123.4` and `processor_ms 45.6`: the median time, and the median
processor time of its process, between the ends of its optimizer's steps, the first 20 left out.
"""

import itertools
import os
import runpy
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    """Run the script as if it were called itself."""
    discard, script = int(sys.argv[1]), sys.argv[2]
    ends: list[float] = []
    used: list[float] = []

    def stepped(*_: Any) -> None:
        ends.append(time.perf_counter())
        used.append(time.process_time())

    register_optimizer_step_post_hook(stepped)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")
    if os.environ.get("RANK", "0") == "0":
        print(f"step_ms {median_ms(ends[discard:]):.3f}", flush=True)
        print(f"processor_ms {median_ms(used[discard:]):.3f}", flush=True)


def median_ms(readings: Sequence[float]) -> float:
    """Return the median difference of neighbouring readings (s), in milliseconds."""
    times = [after - before for before, after in itertools.pairwise(readings)]
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()

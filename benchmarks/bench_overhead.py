"""What capture costs, side by side in one run: `make bench-overhead`. Prints, never judges.

Arguments name parts (start, always, window); none means all. Every figure is of interleaved pairs
(with, without, without, with, ...), so that a machine that others use too disturbs both alike;
ratios carry the 95 % t-interval of their logarithms.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scipy import stats

from perfkit.profiler.inrank.capture import Capture
from perfkit.profiler.launch import environment_of

PROBE = str(Path(__file__).with_name("overhead_probe.py"))
PAIRS = 12
STARTS = 100
Measured = dict[str, float]


def environment(run: str, windows: tuple[tuple[int, int], ...] = ()) -> dict[str, str]:
    """Return the environment in which a process is captured into `run`."""
    request = Capture(
        run_dir=run,
        run_id="bench",
        parent_node="bench",
        windows=windows,
    )
    return environment_of(os.environ, request)


def probe(what: str, profiler: str, environ: dict[str, str]) -> Measured:
    """Run the probe once."""
    command = [sys.executable, PROBE, what, profiler]
    quiet = {**environ, "KINETO_LOG_LEVEL": "99"}  # else torch's lines stand between ours
    done = subprocess.run(command, env=quiet, stdout=subprocess.PIPE, check=True)
    found: Measured = json.loads(done.stdout)
    return found


def pairs(
    ours: Callable[[], Measured], theirs: Callable[[], Measured]
) -> list[tuple[Measured, Measured]]:
    """Measure both PAIRS times, in turns, each first as often as the other."""
    found = []
    for number in range(PAIRS):
        if number % 2:
            second = theirs()
            found.append((ours(), second))
        else:
            found.append((ours(), theirs()))
    return found


def ratio(found: list[tuple[Measured, Measured]], key: str) -> str:
    """Return the geometric mean of the pairs' ratios with its 95 % interval."""
    logs = [math.log(a[key] / b[key]) for a, b in found]
    mean, error = statistics.mean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    reach = float(stats.t.ppf(0.975, len(logs) - 1)) * error
    low, point, high = (math.exp(mean + d) for d in (-reach, 0.0, reach))
    return f"{point:.3f}x (95 % interval {low:.3f} to {high:.3f}, {len(logs)} pairs)"


def difference(values: list[float], unit: str) -> str:
    """Return the median of paired differences and its quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:+.2f} {unit} (quartiles {low:+.2f} to {high:+.2f}, {len(values)} pairs)"


def interpreter_start() -> None:
    """Print what the start of a Python that never imports torch takes longer."""
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as run:
        environs = (environment(run), dict(os.environ))
        for _ in range(STARTS):
            (ours, ours_cpu), (theirs, theirs_cpu) = map(one_start, environs)
            wall.append(ours - theirs)
            cpu.append(ours_cpu - theirs_cpu)
    show("interpreter start", difference(wall, "ms"))
    show("interpreter start, processor time", difference(cpu, "ms"))


def one_start(environ: dict[str, str]) -> tuple[float, float]:
    """Return the wall and processor milliseconds of one interpreter that does nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", "pass"], env=environ, check=True)
    wall = (time.perf_counter_ns() - begun) / 1e6
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def always_on() -> str:
    """Return the processor time that a step's record takes, fetch hook included."""
    with tempfile.TemporaryDirectory() as run:
        found = pairs(
            lambda: probe("loop", "none", environment(run)),
            lambda: probe("loop", "none", dict(os.environ)),
        )
    key = "cpu_us_per_step"
    return difference([a[key] - b[key] for a, b in found], "us of processor time")


def in_window() -> None:
    """Print the window against plain torch.profiler: same options, same steps, same export."""
    with tempfile.TemporaryDirectory() as run:
        environ = environment(run, ((10, 19),))
        found = pairs(
            lambda: probe("window", "none", environ),
            lambda: probe("window", "torch", dict(os.environ)),
        )
        bare = [probe("window", "none", dict(os.environ)) for _ in range(3)]
        records = [
            json.loads(line)
            for path in Path(run).glob("attempt0/*/steps.jsonl")
            for line in path.read_text().splitlines()
        ]
    closed = [record for record in records if record["k"] == "window"]
    pause = statistics.median((w["stop_ns"] + w["export_ns"]) / 1e6 for w in closed)
    show("window / torch.profiler, processor time", ratio(found, "cpu_ms"))
    show("window / torch.profiler, longest step", ratio(found, "longest_step_ms"))
    show("window / torch.profiler, peak memory", ratio(found, "peak_rss_mib"))
    unprofiled = statistics.median(b["cpu_ms"] for b in bare)
    profiled = statistics.median(a["cpu_ms"] for a, _ in found)
    show("window / no profiler, processor time", f"{profiled / unprofiled:.2f}x (medians)")
    show("pause at the window's end (stop, export)", f"{pause:.0f} ms (median)")
    steps = closed[0]["last"] - closed[0]["first"] + 2
    ours = statistics.median(w["bytes"] for w in closed) / steps
    theirs = statistics.median(b["bytes_per_step"] for _, b in found)
    show("trace per step, plain", f"{ours / 1e3:.0f} kB, torch.profiler {theirs / 1e3:.0f} kB")


def show(what: str, value: str) -> None:
    """Print one line of the table."""
    print(f"{what:<42} {value}", flush=True)


PARTS: dict[str, Callable[[], None]] = {
    "start": interpreter_start,
    "always": lambda: show("always on, per step", always_on()),
    "window": in_window,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()

"""What a prediction costs: graph, replays and memory for many tasks, and for many ranks.

    python benchmarks/bench_whatif.py

Each row runs in a process of its own: copies of a real rank, on clocks of their own, read from the
cache (reading is bench_read's); the graph of their last steps; five what-ifs on it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from perfkit.trace.model import NONE, RankRecord, RankTrace

V100 = Path("../shared/traces/kineto/hta_v100_5steps_54MB.json.gz")
TORCHREC = Path("../shared/traces/kineto/torchrec_v100_4ranks_opt4")
ROWS = (  # ranks, source, captured steps that are made one
    (8, V100, 4),  # 2 steps of 100,000 events, from ten steps of 25,000
    (8, V100, 1),
    (64, TORCHREC, 1),
)
TILED_MB = 108


def joined(trace: RankTrace, every: int) -> RankTrace:
    """Return the trace with `every` steps in a row as one; what is left over is no step."""
    steps = trace.steps
    count = len(steps.index) // every
    first = np.arange(count) * every + len(steps.index) % every
    place = np.searchsorted(steps.start_ns[first], trace.events.start_ns, side="right") - 1
    inside = (trace.events.step != NONE) & (place >= 0)
    # Device work belongs to the step that launched it, whenever it ran.
    host = np.where(inside, place, NONE)
    launched = np.where(trace.events.launch >= 0, host[trace.events.launch], host)
    return replace(
        trace,
        events=replace(trace.events, step=launched.astype(np.int32)),
        steps=replace(
            steps,
            index=np.arange(count, dtype=np.int32),
            start_ns=steps.start_ns[first],
            end_ns=steps.end_ns[first + every - 1],
            complete=steps.complete[first],
            has_eval=steps.has_eval[first],
        ),
    )


def measure(ranks: int, source: Path, every: int, folder: Path) -> dict[str, float | str]:
    """Build the graph of `ranks` copies and ask; return seconds and megabytes."""
    from bench_ranks import Copies, multiply
    from bench_read import tile

    from perfkit.analyzers.graph import build_graph
    from perfkit.analyzers.refusal import Refusal
    from perfkit.analyzers.whatif import ask, baseline, fit_network
    from perfkit.analyzers.whatif_changes import everything

    if every > 1:
        tile(source, folder / "tiled.json", TILED_MB)
        source = folder / "tiled.json"
    run, original = multiply(source, ranks)
    copies = Copies(original, folder, ranks)

    def load(record: RankRecord) -> RankTrace:
        trace = copies(record)
        return trace if every == 1 else joined(trace, every)

    events = int((load(run.ranks[0]).events.step != NONE).sum())
    began = time.perf_counter()
    graph = build_graph(run, load)
    built = time.perf_counter()
    if isinstance(graph, Refusal):
        return {"events": events, "refused": graph.reason}
    setting = baseline(graph, fit_network(graph, seed=0))
    asked = time.perf_counter()
    answers = [ask(setting, [change]) for change in everything()[:5]]
    return {
        "events_in_steps": events,
        "tasks": len(graph.plan.graph),
        "steps": len(graph.steps),
        "build_s": built - began,
        "ask_s": (time.perf_counter() - asked) / len(answers),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        ranks, source, every = ROWS[options.child]
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(ranks, source, every, Path(folder))))
        return
    for number, (ranks, source, _) in enumerate(ROWS):
        command = [sys.executable, __file__, "--child", str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        said = ", ".join(
            f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in found.items()
        )
        print(f"{ranks} copies of a rank of {source.name}: {said}", flush=True)


if __name__ == "__main__":
    main()

"""What analysing many ranks costs: one real rank, multiplied, each copy on a clock of its own.

Every copy is loaded and surveyed like any rank, in processes of this machine; the driver
(matching, blame, verdict) runs over all of them. Each size runs in a process of its own. The last
row keeps the ranks and thins their events: the driver's memory must follow ranks and steps, not
events.

    python benchmarks/bench_ranks.py ../shared/traces/kineto/torchrec_v100_4ranks_opt4
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, Bool, Events, RankRecord, RankTrace, Run
from perfkit.trace.run import load_rank, open_run

DEFAULT = Path("../shared/traces/kineto/torchrec_v100_4ranks_opt4")
SIZES = (64, 256, 1024)
MANY = 10_000
RANKS_PER_NODE = 8
KEPT_KINDS = (Kind.ANNOTATION, Kind.COMM_KERNEL, Kind.COMM_HOST, Kind.COMM_CALL)


@dataclass(frozen=True)
class Copies:
    """Loads copies of one rank; keeps 1 in `every` of the events that are not communication."""

    original: RankRecord
    cache: Path
    ranks: int
    every: int = 1

    def __call__(self, record: RankRecord) -> RankTrace:
        """Return the copy that is `record`'s rank, on its node's clock."""
        trace = load_rank(self.original, cache=self.cache)
        shift = 1_000_003 * (record.rank // RANKS_PER_NODE) + 20_011 * record.rank
        everyone = tuple(range(self.ranks))
        events = replace(trace.events, start_ns=trace.events.start_ns + shift)
        return replace(
            trace,
            rank=record.rank,
            world_size=self.ranks,
            events=_thinned(events, self.every),
            collectives=_mapped(trace, self.every),
            groups=tuple(replace(group, ranks=everyone) for group in trace.groups),
            steps=replace(
                trace.steps,
                start_ns=trace.steps.start_ns + shift,
                end_ns=trace.steps.end_ns + shift,
            ),
            node=f"node{record.rank // RANKS_PER_NODE}",
            clock_domain=f"host:node{record.rank // RANKS_PER_NODE}",
        )


def _kept(events: Events, every: int) -> Bool:
    special = np.isin(events.kind, KEPT_KINDS)
    launches = events.launch[events.kind == Kind.COMM_KERNEL]
    special[launches[launches != NONE]] = True
    return np.asarray(special | (np.arange(len(events)) % every == 0))


def _thinned(events: Events, every: int) -> Events:
    if every == 1:
        return events
    kept = _kept(events, every)
    to = _renumbering(kept)
    columns = {
        name: getattr(events, name)[kept]
        for name in events.__dataclass_fields__
        if name not in ("names", "shapes")
    }
    for link in ("launch", "op"):
        columns[link] = np.where(columns[link] == NONE, NONE, to[columns[link]]).astype(np.int32)
    return replace(events, **columns)


def _mapped(trace: RankTrace, every: int):  # type: ignore[no-untyped-def]
    if every == 1:
        return trace.collectives
    to = _renumbering(_kept(trace.events, every))
    return replace(trace.collectives, event=to[trace.collectives.event].astype(np.int32))


def _renumbering(kept: np.ndarray[tuple[int], np.dtype[np.bool_]]):  # type: ignore[no-untyped-def]
    return np.where(kept, np.cumsum(kept) - 1, NONE)


def multiply(source: Path, ranks: int) -> tuple[Run, RankRecord]:
    """Return a run of `ranks` copies of the first rank in `source`, and that rank."""
    run = open_run([source])
    original = run.ranks[0]
    copies = tuple(replace(original, rank=rank, world_size=ranks) for rank in range(ranks))
    return replace(run, ranks=copies, issues=()), original


def measure(source: Path, ranks: int, every: int, cache: Path) -> dict[str, float]:
    """Analyse the copies in this process and its workers; return times and the driver's memory."""
    from perfkit.analyzers.analysis import analyze, encode

    run, original = multiply(source, ranks)
    load = Copies(original, cache, ranks, every)
    events = len(load(run.ranks[0]).events)
    before = _peak_mb()
    began = time.perf_counter()
    own = time.process_time()
    analysis = analyze(run, load, jobs=len(os.sched_getaffinity(0)))
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "ranks": ranks,
        "events": events,
        "wall_s": time.perf_counter() - began,
        "driver_cpu_s": time.process_time() - own,
        "worker_cpu_s": workers.ru_utime + workers.ru_stime,
        "driver_mb": _peak_mb() - before,
        "analysis_mb": len(encode(analysis)) / 1e6,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_child(source: Path, ranks: int, every: int, cache: Path) -> dict[str, float]:
    """Measure one size in a fresh process."""
    command = [sys.executable, __file__, str(source), "--child", str(ranks)]
    command += ["--every", str(every), "--cache", str(cache)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {key: float(value) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


def report(source: Path, sizes: list[int]) -> None:
    """Print a row per size, a row with thinned events, and what many ranks would take."""
    print(f"copies of one rank of {source}; {len(os.sched_getaffinity(0))} processors")
    print("ranks  events/rank  wall s  CPU ms/rank  driver CPU ms/rank  driver MB  KB/rank")
    with tempfile.TemporaryDirectory() as folder:
        cases = [(size, 1) for size in sizes] + [(sizes[-1], 4)]
        rows = [run_child(source, size, every, Path(folder)) for size, every in cases]
    for row in rows:
        ranks = row["ranks"]
        print(
            f"{ranks:5.0f}  {row['events']:11,.0f}  {row['wall_s']:6.1f}  "
            f"{1e3 * row['worker_cpu_s'] / ranks:11.1f}  "
            f"{1e3 * row['driver_cpu_s'] / ranks:18.1f}  {row['driver_mb']:9.0f}  "
            f"{1024 * row['driver_mb'] / ranks:7.1f}"
        )
    # The first size runs in another regime (what is kept, imports): the slope is of the last two.
    small, large, thin = rows[-3], rows[-2], rows[-1]
    more = large["ranks"] - small["ranks"]
    mb, cpu = ((large[key] - small[key]) / more for key in ("driver_mb", "driver_cpu_s"))
    left = MANY - large["ranks"]
    print(
        f"a quarter of the events: {thin['driver_mb'] / large['driver_mb']:.2f} of the driver's "
        "memory"
    )
    print(
        f"{MANY:,} ranks, by these slopes: driver {(large['driver_mb'] + left * mb) / 1e3:.1f} GB "
        f"and {(large['driver_cpu_s'] + left * cpu) / 60:.1f} min of CPU; reading "
        f"{MANY * large['worker_cpu_s'] / large['ranks'] / 3600:.2f} CPU hours, shared by the "
        "workers"
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row = measure(options.source, options.child, options.every, options.cache)
        print(json.dumps(row))
    else:
        report(options.source, options.sizes)


if __name__ == "__main__":
    main()

"""How fast, and in how much memory, a large Nsight export is read.

The export is tiled from a real one: its rows again and again, each copy later, with correlation ids
of its own, until the file has the size. Reading runs in a process of its own.

    python benchmarks/bench_nsight.py ../shared/traces/nsys/mfu_2gpu_before.sqlite.gz --mb 260
"""

import argparse
import gzip
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEFAULT = Path("../shared/traces/nsys/mfu_2gpu_before.sqlite.gz")
TABLES = ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME", "SYNCHRONIZATION")
MOVED = ("start", "end", "correlationId")


def tile(source: Path, target: Path, megabytes: int) -> int:
    """Write copies of the events in `source`; return the number of rows of events."""
    data = source.read_bytes()
    target.write_bytes(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    database = sqlite3.connect(target)
    known = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    tables = [f"CUPTI_ACTIVITY_KIND_{name}" for name in TABLES] + ["NVTX_EVENTS"]
    tables = [table for table in tables if table in known]
    last = max(database.execute(f'SELECT MAX("end") FROM {t}').fetchone()[0] for t in tables)
    rows, one = 0, target.stat().st_size
    copies = max(1, round(megabytes * 1_000_000 / one))
    for table in tables:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        shift = {"start": last + 1_000_000, "end": last + 1_000_000, "correlationId": 1 << 24}
        moved = ", ".join(f'"{c}" + :{c}' if c in MOVED else f'"{c}"' for c in columns)
        count = database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        database.execute(f"CREATE TEMP TABLE original AS SELECT * FROM {table}")
        for copy in range(1, copies):
            given = {name: copy * by for name, by in shift.items()}
            database.execute(f"INSERT INTO {table} SELECT {moved} FROM original", given)
        database.execute("DROP TABLE original")
        rows += count * copies
    database.commit()
    database.close()
    return rows


def read(path: Path, cache: Path) -> dict[str, float]:
    """Return seconds of the first and second open of all ranks, and the peak memory."""
    from perfkit.trace.run import load_rank, open_run

    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        rows = sum(len(load_rank(one, cache=cache).events) for one in open_run([path]).ranks)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first_s": seconds[0], "second_s": seconds[1], "peak_mb": peak, "rows": rows}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("export", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--mb", type=int, default=260)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cache:
        print(json.dumps(read(options.export, options.cache)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiled.sqlite"
        rows = tile(options.export, path, options.mb)
        size = path.stat().st_size / 1e6
        command = [sys.executable, __file__, str(path), "--cache", f"{folder}/cache"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{size:.0f} MB, {rows:,} rows, tiled from {options.export.name}: first open "
        f"{took['first_s']:.1f} s ({size / took['first_s']:.0f} MB/s), peak {took['peak_mb']:.0f} "
        f"MB; second open {took['second_s']:.2f} s; {took['rows']:,} events"
    )


if __name__ == "__main__":
    main()

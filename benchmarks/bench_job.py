"""Time `perfkit analyze` on a job of several ranks, all analyzers on, nothing cached.

    python benchmarks/bench_job.py [FOLDER] [--megabytes 30]

FOLDER holds one Kineto trace a rank (default: the 8 H100 ranks among the shared captures). Each
trace is repeated in time, steps and correlations renumbered, until it has the wanted size, and the
command runs as a process of its own on two cores. The target is 15 s for 8 ranks of 30 MB.
"""

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET_S, TARGET_MB, TARGET_RANKS, CORES = 15.0, 30.0, 8, 2
DEFAULT = Path(__file__).parents[2] / "shared" / "traces" / "kineto" / "nanogpt_h100_8ranks"
STEP = re.compile(r"^(ProfilerStep#)(\d+)$")
SHIFTED = ("correlation", "External id", "Seq", "Ev Idx")


def read(path: Path) -> dict[str, Any]:
    """Read one trace, compressed or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document: dict[str, Any] = json.loads(data)
    return document


def tiled(document: dict[str, Any], megabytes: float) -> bytes:
    """Return the trace repeated in time until it has about this size."""
    events = document["traceEvents"]
    timed = [e for e in events if "ts" in e and e.get("ph") != "M"]
    rest = [e for e in events if "ts" not in e or e.get("ph") == "M"]
    first = min(float(e["ts"]) for e in timed)
    span = max(float(e["ts"]) + float(e.get("dur", 0)) for e in timed) - first + 1.0
    numbers = [int(m[2]) for e in timed if (m := STEP.match(str(e.get("name"))))]
    steps = max(numbers) - min(numbers) + 1 if numbers else 0
    copies = max(1, round(megabytes * 1e6 / len(json.dumps(document))))
    big = 1 + max((int(e.get("args", {}).get("correlation", 0) or 0) for e in timed), default=0)
    for copy in range(copies):
        moved = copy * span, copy * steps, copy * big
        rest += [shifted(e, *moved) for e in timed] if copy else timed
    return json.dumps(document | {"traceEvents": rest}).encode()


def shifted(event: dict[str, Any], microseconds: float, steps: int, number: int) -> dict[str, Any]:
    """Return the event that much later, as another step, with another correlation."""
    moved = event | {"ts": float(event["ts"]) + microseconds}
    if named := STEP.match(str(event.get("name"))):
        moved["name"] = f"{named[1]}{int(named[2]) + steps}"
    if isinstance(event.get("id"), int):
        moved["id"] = event["id"] + number
    args = event.get("args")
    if isinstance(args, dict):
        changed = {k: args[k] + number for k in SHIFTED if isinstance(args.get(k), int)}
        moved["args"] = args | changed
    return moved


def analyse(folder: Path, out: Path) -> float:
    """Return the wall time of `perfkit analyze` on two cores."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    command = [sys.executable, "-m", "perfkit", "analyze", str(folder), "--out", str(out), "--json"]
    start = time.perf_counter()
    subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), *command],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"XDG_CACHE_HOME": str(out / "cache")},
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure and print; the status is 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--megabytes", type=float, default=TARGET_MB)
    given = parser.parse_args()
    files = sorted(p for p in given.folder.glob("*.json*") if p.is_file())
    if not files:
        print(f"bench_job: skipped, no traces in {given.folder}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        traces, out = Path(scratch) / "traces", Path(scratch) / "out"
        traces.mkdir()
        size = 0
        for number, path in enumerate(files):
            content = tiled(read(path), given.megabytes)
            size += len(content)
            (traces / f"rank{number}.json").write_bytes(content)
        seconds = analyse(traces, out)
        found = json.loads((out / "analysis.json").read_bytes())
    ranks = len(found["world"]["analysed_ranks"])
    scaled = TARGET_S * size / (TARGET_MB * 1e6 * TARGET_RANKS)
    verdict = "met" if seconds <= scaled else "missed"
    print(
        f"perfkit analyze: {ranks} ranks x {size / 1e6 / len(files):.0f} MB, "
        f"{found['steps']['analysed']} steps, {CORES} cores: {seconds:.1f} s "
        f"({size / 1e6 / seconds:.0f} MB/s); target {scaled:.1f} s {verdict}"
    )
    if seconds > scaled:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

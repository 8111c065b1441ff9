"""How fast, and in how much memory, a large Kineto file is read; beside HTA where it is installed.

The file is tiled from a real one: its events again and again, each copy later, with correlation and
External ids of its own, until the size is reached. Each reader runs in a process of its own.

    python benchmarks/bench_read.py ../shared/traces/kineto/hta_v100_5steps_54MB.json.gz --mb 260

HTA may live in an environment of its own: `--peer-python build/hta/bin/python` (make hta).
"""

import argparse
import gzip
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TS = re.compile(rb'("ts":\s*)(\d+)')
_IDS = re.compile(rb'("(?:correlation|External id|id)":\s*)(\d+)')
_STEPS = re.compile(rb'("ProfilerStep#)(\d+)')
_END = re.compile(rb"\}\s*\]")
RUNS = 3
DEFAULT = Path("../shared/traces/kineto/hta_v100_5steps_54MB.json.gz")


def tile(source: Path, target: Path, megabytes: int) -> int:
    """Write copies of `source`, one after the other in time; return the number of events."""
    data = source.read_bytes()
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    begin = text.index(b"[", text.index(b'"traceEvents"')) + 1
    end = next(m.start() + 1 for m in _END.finditer(text, begin))
    events = text[begin:end]
    count = len(json.loads(b"[" + events + b"]"))
    stamps = sorted(int(m[2]) for m in _TS.finditer(events))
    length = stamps[-1] - stamps[len(stamps) // 100] + 10_000_000
    largest = max((int(m[2]) for m in _IDS.finditer(events)), default=0) + 1
    steps = max((int(m[2]) for m in _STEPS.finditer(events)), default=0) + 1
    copies = max(1, round(megabytes * 1_000_000 / len(events)))
    with target.open("wb") as file:
        file.write(text[:begin])
        for copy in range(copies):
            moved = _shifted(_TS, events, copy * length)
            moved = _shifted(_STEPS, _shifted(_IDS, moved, copy * largest), copy * steps)
            file.write(moved if copy == 0 else b"," + moved)
        file.write(text[end:])
    return count * copies


def _shifted(pattern: re.Pattern[bytes], text: bytes, by: int) -> bytes:
    """Add `by` to the number of each match."""

    def add(found: re.Match[bytes]) -> bytes:
        return found[1] + b"%d" % (int(found[2]) + by)

    return pattern.sub(add, text)


def time_perfkit(path: Path, cache: Path) -> dict[str, float]:
    """Return seconds of the first and second open, and the peak memory, of this process."""
    from perfkit.trace.run import load_rank, open_run

    warm = path.with_name("small.json")  # what lazy imports cost is not reading
    warm.write_text('[{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 1, "dur": 1}]')
    load_rank(open_run([warm]).ranks[0], cache=cache)
    load_rank(open_run([warm]).ranks[0], cache=cache)
    first, cpu = time.perf_counter(), time.process_time()
    trace = load_rank(open_run([path]).ranks[0], cache=None)
    first, cpu = time.perf_counter() - first, time.process_time() - cpu
    peak = _peak_megabytes()
    load_rank(open_run([path]).ranks[0], cache=cache)
    second = time.perf_counter()
    again = load_rank(open_run([path]).ranks[0], cache=cache)
    second = time.perf_counter() - second
    assert len(again.events) == len(trace.events)
    return {
        "first_s": first,
        "first_cpu_s": cpu,
        "second_s": second,
        "peak_mb": peak,
        "rows": len(trace.events),
    }


def time_hta(path: Path) -> dict[str, float]:
    """Return seconds and peak memory of HTA reading the same file, links and steps included."""
    from hta.common.trace import parse_trace_file

    first, cpu = time.perf_counter(), time.process_time()
    frame = parse_trace_file(str(path))[1]
    return {
        "first_s": time.perf_counter() - first,
        "first_cpu_s": time.process_time() - cpu,
        "peak_mb": _peak_megabytes(),
        "rows": len(frame),
    }


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(reader: str, path: Path, cache: Path, python: str) -> dict[str, float]:
    """Run one reader in a fresh process on one core."""
    command = [python, __file__, str(path), "--child", reader, "--cache", str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {key: float(value) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


def compare(source: Path, megabytes: int, peer_python: str) -> None:
    """Tile, measure alternately, print the medians and the ratios."""
    has_hta = Path(peer_python).exists() and _has_hta(peer_python)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiled.json"
        count = tile(source, path, megabytes)
        size = path.stat().st_size / 1e6
        print(f"{size:.0f} MB, {count:,} events, tiled from {source.name}")
        ours: list[dict[str, float]] = []
        theirs: list[dict[str, float]] = []
        for run in range(RUNS):
            cache = Path(folder) / f"cache{run}"
            ours.append(measure("perfkit", path, cache, sys.executable))
            if has_hta:
                theirs.append(measure("hta", path, cache, peer_python))
    mine = _medians(ours)
    print(
        f"perfkit: first open {mine['first_s']:.2f} s ({size / mine['first_s']:.0f} MB/s; "
        f"CPU {mine['first_cpu_s']:.2f} s, {size / mine['first_cpu_s']:.0f} MB/s), "
        f"peak {mine['peak_mb']:.0f} MB; second open {1e3 * mine['second_s']:.0f} ms "
        f"({mine['first_s'] / mine['second_s']:.0f}x faster); {mine['rows']:.0f} rows"
    )
    if not theirs:
        print("HTA: not installed (make hta, or pip install 'perfkit[hta]')")
        return
    peer = _medians(theirs)
    print(
        f"HTA: {peer['first_s']:.2f} s (CPU {peer['first_cpu_s']:.2f} s), "
        f"peak {peer['peak_mb']:.0f} MB: perfkit is "
        f"{peer['first_s'] / mine['first_s']:.1f}x as fast in "
        f"{mine['peak_mb'] / peer['peak_mb']:.0%} of its memory"
    )


def _has_hta(python: str) -> bool:
    return (
        subprocess.run([python, "-c", "import hta"], check=False, capture_output=True).returncode
        == 0
    )


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in runs[0]}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--mb", type=int, default=260)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has HTA")
    parser.add_argument("--child", choices=("perfkit", "hta"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "perfkit":
        print(json.dumps(time_perfkit(options.trace, options.cache)))
    elif options.child == "hta":
        print(json.dumps(time_hta(options.trace)))
    else:
        compare(options.trace, options.mb, options.peer_python)


if __name__ == "__main__":
    main()

"""Builds small Kineto files, event by event, for tests of the reader."""

import gzip
import json
from pathlib import Path
from typing import Any

Event = dict[str, Any]

BASE_NS = 1_790_857_026_000_000_000


def span(category: str, name: str, ts: float, dur: float, **args: Any) -> Event:
    """Return a complete event; times in microseconds, `tid`, `pid` may be among `args`."""
    pid, tid = args.pop("pid", 75), args.pop("tid", 75)
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": ts,
        "dur": dur,
        "args": {key.replace("_", " "): value for key, value in args.items()},
    }


def op(name: str, ts: float, dur: float, external: int, **args: Any) -> Event:
    return span("cpu_op", name, ts, dur, External_id=external, **args)


def launch(ts: float, correlation: int, **args: Any) -> Event:
    name = args.pop("name", "cudaLaunchKernel")
    return span("cuda_runtime", name, ts, 2.0, correlation=correlation, **args)


def kernel(name: str, ts: float, dur: float, correlation: int, **args: Any) -> Event:
    args = {"device": 0, "stream": 7, "pid": 0, "tid": 7} | args
    return span("kernel", name, ts, dur, correlation=correlation, **args)


def step(number: int, ts: float, dur: float) -> Event:
    return span("user_annotation", f"ProfilerStep#{number}", ts, dur)


def document(events: list[Event], **extra: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 1,
        "baseTimeNanoseconds": BASE_NS,
        **extra,
        "traceEvents": events,
    }


def write(path: Path, content: object) -> Path:
    """Write JSON (an object, a list or text as it is), packed if the name ends in .gz."""
    text = content if isinstance(content, str) else json.dumps(content)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path

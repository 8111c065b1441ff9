"""A second, slow reading of Kineto files with the json module, to compare the reader with."""

import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Interval = tuple[int, int]

HOST = {"cpu_op", "operator", "user_annotation"}
RUNTIME = {"cuda_runtime", "cuda_driver", "runtime", "mtia_runtime"}
MARKERS = {"event_wait", "event_record"}  # MTIA: no work
WORK = {"kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset", "mtia_ccp_events"}


class NaiveTrace:
    """One file's complete events with exact times in Unix nanoseconds."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
        document = json.loads(text, parse_float=Decimal, strict=False)
        self.document = document if isinstance(document, dict) else {"traceEvents": document}
        self.base = int(self.document.get("baseTimeNanoseconds", 0))
        events = self.document["traceEvents"]
        self.complete = [e for e in events if e.get("ph") == "X"]
        self.memory = [e for e in events if e.get("ph") == "i" and e.get("name") == "[memory]"]

    def of(self, categories: Iterable[str]) -> list[Event]:
        wanted = set(categories)
        return [e for e in self.complete if category(e) in wanted and e["name"] not in MARKERS]

    def interval(self, event: Event) -> Interval:
        start = self.base + int(Decimal(event["ts"]) * 1000)
        return start, start + max(int(Decimal(event.get("dur", 0)) * 1000), 0)

    def launches(self) -> dict[int, Event]:
        """Return the runtime call of each correlation id."""
        calls = [e for e in self.of(RUNTIME) if "correlation" in e.get("args", {})]
        return {e["args"]["correlation"]: e for e in reversed(calls)}

    def steps(self) -> dict[int, Interval]:
        marks = [e for e in self.of(HOST) if e["name"].startswith("ProfilerStep#")]
        return {int(e["name"].split("#")[1]): self.interval(e) for e in marks}


def category(event: Event) -> str:
    return str(event.get("cat") or "").lower()


def union_ns(intervals: Iterable[Interval]) -> int:
    """Return the length of the union."""
    total, reach = 0, -(1 << 62)
    for start, end in sorted(intervals):
        total += max(end - max(start, reach), 0)
        reach = max(reach, end)
    return total


def innermost(trace: NaiveTrace, call: Event, ops: list[Event]) -> Event | None:
    """Return the shortest operator on the call's thread that contains its start."""
    at = trace.interval(call)[0]
    around = [
        (trace.interval(op)[0], -trace.interval(op)[1], order, op)
        for order, op in enumerate(ops)
        if op["tid"] == call["tid"] and trace.interval(op)[0] <= at < trace.interval(op)[1]
    ]
    return max(around, key=lambda entry: entry[:2])[3] if around else None

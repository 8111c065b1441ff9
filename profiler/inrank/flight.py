"""Which collectives the window's steps issued, from torch's c10d flight recorder.

The recorder is a ring of the last entries (2000 by default) that torch keeps anyway. It is read
when the window opens and when it closes, and in between only if the ring would not reach that far.
Reading it is a private function of torch's, so it is looked up and its absence recorded.
"""

from __future__ import annotations

import bisect
import json
import os
import pickle
from typing import Any, Callable

from .files import Stream

DEFAULT_RING = 2000
SAFE_SHARE = 0.7  # of the ring may fill between two readings
DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}


class FlightRecorder:
    """The entries that appeared between `mark` and `collect`, written to collectives.jsonl."""

    def __init__(self, folder: str, rank: int, warn: Callable[[str], None]) -> None:
        self.path = os.path.join(folder, "collectives.jsonl")
        self.rank = rank
        self.warn = warn
        self.seen = -1  # the highest record_id that has been read
        self.reach = 1 << 62  # steps after which the ring must be read again
        self.next_read = self.reach  # the step at whose beginning that is

    def mark(self, step: int) -> None:
        """The window opens at `step`: what is in the ring now is of earlier steps."""
        entries = self._entries()
        if entries:
            self.seen = entries[-1]["record_id"]
            a_step = (self.seen + 1) / max(step, 1)
            self.reach = max(int(SAFE_SHARE * ring_size() / a_step), 1)
            self.next_read = step + self.reach

    def collect(self, bounds: list[int], first_step: int) -> None:
        """Write the entries since the last reading.

        `bounds`: Unix times (ns) at which the steps first_step, first_step + 1, ... began.
        """
        entries = self._entries()
        if entries is None:
            return
        if not entries:  # off by default in older releases, which also leave gloo out
            self.warn("torch's flight recorder is empty; collectives are matched by order")
        self.next_read = first_step + len(bounds) + self.reach
        new = [entry for entry in entries if entry["record_id"] > self.seen]
        if new and new[0]["record_id"] > self.seen + 1:
            missing = new[0]["record_id"] - self.seen - 1
            self.warn(f"flight recorder overran: {missing} collectives of the window are missing")
        fresh = not os.path.exists(self.path)
        stream = Stream(self.path, rank=self.rank) if fresh else None
        lines = [json.dumps(_line(e, bounds, first_step), separators=(",", ":")) for e in new]
        if stream is not None:
            stream.close()
        with open(self.path, "a") as file:
            file.write("".join(line + "\n" for line in lines))
        if entries:
            self.seen = entries[-1]["record_id"]

    def _entries(self) -> list[dict[str, Any]] | None:
        entries = read_entries()
        if entries is None:
            self.warn("this torch has no flight recorder; collectives are matched by order")
        return entries


def read_entries() -> list[dict[str, Any]] | None:
    """All entries of the ring, oldest first; None where torch has no recorder."""
    dump = find_dump()
    if dump is None:
        return None
    entries: list[dict[str, Any]] = pickle.loads(dump_of(dump)).get("entries", [])
    return entries


def summary(entry: dict[str, Any]) -> dict[str, Any]:
    """What one entry says of a collective, as `perfkit dump` shows it."""
    group = entry.get("process_group") or (str(entry.get("pg_id", "")), "")
    return {
        "group": group[0],
        "description": group[1],
        "seq": entry.get("collective_seq_id", -1),
        "op": entry["profiling_name"].split(":")[-1],
        "sizes": entry.get("input_sizes", []),
        "state": entry.get("state", ""),
        "created_ns": entry["time_created_ns"],
        "completed_ns": entry.get("time_discovered_completed_ns"),
    }


def ring_size() -> int:
    """Entries that the recorder keeps."""
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return DEFAULT_RING


def dump_of(dump: Callable[..., bytes]) -> bytes:
    """Collectives without stack frames; the function of torch 2.3 cannot leave them out."""
    try:
        return dump(True, False, False)
    except TypeError:
        return dump()


def find_dump() -> Callable[..., bytes] | None:
    """The private dump function of torch, under the name that this release gives it."""
    import torch

    c10d = getattr(torch._C, "_distributed_c10d", None)
    for name in ("_dump_fr_trace", "_dump_nccl_trace"):
        dump: Callable[..., bytes] | None = getattr(c10d, name, None)
        if dump is not None:
            return dump
    return None


def _line(entry: dict[str, Any], bounds: list[int], first_step: int) -> dict[str, Any]:
    group = entry.get("process_group") or (str(entry.get("pg_id", "")), "")
    created = entry["time_created_ns"]
    after = bisect.bisect_right(bounds, created)
    return {
        "k": "c",
        "group": group[0],
        "description": group[1],
        "seq": entry.get("collective_seq_id", -1),
        "p2p_seq": entry.get("p2p_seq_id", 0),
        "op_id": entry.get("op_id", -1),
        "op": entry["profiling_name"].split(":")[-1],
        "sizes": entry.get("input_sizes", []),
        "dtypes": [_dtype(name) for name in entry.get("input_dtypes", [])],
        "out_sizes": entry.get("output_sizes", []),
        "created_ns": created,
        "started_ns": entry.get("time_discovered_started_ns"),
        "completed_ns": entry.get("time_discovered_completed_ns"),
        "p2p": bool(entry.get("is_p2p", False)),
        "step": first_step + after - 1 if after else None,
    }


def _dtype(name: str) -> str:
    return DTYPES.get(name, name.lower())

"""Builds run folders as docs/run-folder.md defines them, for tests of the reader."""

import json
from pathlib import Path
from typing import Any

from tests.trace.files import BASE_NS, document, op, span, step, write

MONO_NS = 5_000_000_000
UNIX_NS = BASE_NS + 1_000_000  # of MONO_NS
STEP_NS = 10_000_000


def add_node(run: Path, node: str = "host-1", **facts: Any) -> None:
    folder = run / "nodes" / node
    folder.mkdir(parents=True)
    content = {"schema_version": 1, "run_id": "r1", "node": node, "ended_unix_ns": 1, **facts}
    write(folder / "run.json", content)


def add_rank(
    run: Path,
    rank: int,
    *,
    world_size: int = 2,
    steps: int = 6,
    attempt: int = 0,
    pid: int = 100,
    ended: str | None = "exit",
    **facts: Any,
) -> Path:
    """Make one rank process with step lines; return its folder."""
    folder = run / f"attempt{attempt}" / f"rank{rank:05d}.0.{pid + rank}"
    folder.mkdir(parents=True)
    content = {
        "schema_version": 1,
        "run_id": "r1",
        "rank": rank,
        "world_size": world_size,
        "node": "0",
        "clock_domain": "boot-1",
        "clock": {"mono_ns": MONO_NS, "unix_ns": UNIX_NS},
        "device_kind": "cpu",
        "device": -1,
        "training_thread": 75,
        "process_groups": [
            {"name": "0", "description": "default_pg", "ranks": [0, 1], "backend": "gloo"}
        ],
        **facts,
    }
    write(folder / "facts.json", content)
    lines: list[dict[str, Any]] = [{"k": "header", "schema_version": 1}]
    lines += [step_line(i) for i in range(steps)]
    if ended:
        lines.append({"k": "end", "how": ended, "status": 0, "t": 1, "u": 1})
    write_lines(folder / "steps.jsonl", lines)
    return folder


def step_line(number: int, **fields: Any) -> dict[str, Any]:
    """Return the line of a step that starts STEP_NS after the one before."""
    start = MONO_NS + number * STEP_NS
    end = start + STEP_NS
    line = {"k": "step", "i": number, "t0": start, "t1": end, "u1": end - MONO_NS + UNIX_NS}
    return line | {"in": 1000, "ck": 0, "mb": 1, "n": 8, "ev": 0, "pr": 0} | fields


def add_trace(folder: Path, first: int, last: int, *, suffix: str = ".json.gz") -> Path:
    """Write the trace of a window; it also holds the warm-up step before."""
    events = []
    for number in range(first - 1, last + 1):
        at = (UNIX_NS - BASE_NS + number * STEP_NS) / 1000
        events += [step(number, at, STEP_NS / 1000), op("aten::mm", at + 10, 100.0, number + 1)]
        events.append(span("user_annotation", "perfkit::input_wait", at + 1, 1.0))
    return write(folder / f"trace-{first:04d}-{last:04d}{suffix}", document(events))


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

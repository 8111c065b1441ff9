"""Reads steps.jsonl, the always-on record of a rank (docs/run-folder.md), torn or whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from perfkit.trace.model import I64, NONE, Issue, Spans, StepLines, StepMemory
from perfkit.units import nanoseconds, size

Pair = tuple[int, int]
_MEMORY_BYTES = 4  # allocated, its peak, reserved, its peak; the number of retries comes after
CLOCK_STEP_NS = 500_000_000  # the two clocks of a line are read side by side, an interrupt apart


class _Record(msgspec.Struct, gc=False):
    """Any line of steps.jsonl; the key `k` says which fields it has."""

    kind: str = msgspec.field(name="k", default="")
    step: int = msgspec.field(name="i", default=NONE)
    start: int = msgspec.field(name="t0", default=NONE)
    end: int = msgspec.field(name="t1", default=0)
    end_unix: int = msgspec.field(name="u1", default=0)
    input_wait: int = msgspec.field(name="in", default=0)
    checkpoint: int = msgspec.field(name="ck", default=0)
    micro_batches: int = msgspec.field(name="mb", default=0)
    samples: int = msgspec.field(name="n", default=NONE)
    tokens: int = msgspec.field(name="tok", default=NONE)
    has_eval: int = msgspec.field(name="ev", default=0)
    profiled: int = msgspec.field(name="pr", default=0)
    gc: tuple[Pair, ...] = ()
    compile: tuple[Pair, ...] = msgspec.field(name="co", default=())
    device_times: tuple[Pair, ...] = msgspec.field(name="dv", default=())
    resident: Pair = msgspec.field(name="rss", default=(NONE, NONE))
    memory: tuple[int, ...] = msgspec.field(name="mem", default=())
    oom: bool = False
    file: str = ""
    asked: int = 0
    free: int = 0
    device: int = NONE
    first: int = NONE
    last: int = NONE
    how: str = ""
    text: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFile:
    """What one steps.jsonl says. `ended` is "" without an end record."""

    lines: StepLines
    ended: str
    windows: tuple[Pair, ...]  # first and last step of each closed window
    warnings: tuple[str, ...]
    exception: str
    out_of_memory: str  # what ran out, in words; "" if nothing did
    issues: tuple[Issue, ...]
    clock_set: tuple[int, ...]  # steps in which the wall clock was set


_DECODER = msgspec.json.Decoder(_Record)


def read_step_file(path: Path) -> StepFile:
    """Return the steps of one rank; a missing file has none, a torn last line is ignored."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    records, broken = _records(data)
    steps = _last_of_each([r for r in records if r.kind == "step" and _is_sound(r)])
    ends = [r.how for r in records if r.kind == "end"]
    failures = [f"{r.type}: {r.text}" for r in records if r.kind == "exception"]
    issues = [_broken_lines(path, broken)] if broken else []
    issues += _missing_lines(path, [r.step for r in steps])
    moved = _set_clocks(steps)
    issues += _clock_set(path, moved)
    return StepFile(
        lines=_with_device_times(_step_lines(steps), records),
        ended=ends[-1] if ends else "",
        windows=tuple((r.first, r.last) for r in records if r.kind == "window"),
        warnings=tuple(r.text for r in records if r.kind == "warning"),
        exception=failures[-1] if failures else "",
        out_of_memory=_out_of_memory(records),
        issues=tuple(issues),
        clock_set=tuple(moved),
    )


def _out_of_memory(records: Sequence[_Record]) -> str:
    """Return what ran out of memory: what the allocator said of it, else the last exception."""
    said = [
        f"device {r.device} had {size(r.free)} free when {size(r.asked)} were asked for in step "
        f"{r.step}; the allocator's snapshot is {r.file}"
        for r in records
        if r.kind == "oom"
    ]
    said += [f"{r.type}: {r.text}" for r in records if r.kind == "exception" and r.oom]
    resident = [r.resident[0] for r in records if r.kind == "step" and r.resident[0] != NONE]
    after = f"; {size(resident[-1])} resident after its last step" if resident else ""
    return said[0] + after if said else ""


def _with_device_times(lines: StepLines, records: Sequence[_Record]) -> StepLines:
    times = {step: took for r in records for step, took in r.device_times if took >= 0}
    if not times:
        return lines
    known = [_clipped(times.get(step, NONE)) for step in lines.index.tolist()]
    return replace(lines, device_ns=np.array(known, np.int64))


def no_steps() -> StepLines:
    """Return the step lines of a rank that has none, such as a foreign trace."""
    return _step_lines([])


def _records(data: bytes) -> tuple[list[_Record], int]:
    """Return the records and how many lines before the last one cannot be read."""
    records: list[_Record] = []
    broken = 0
    lines = data.split(b"\n")
    for line in lines[:-1]:
        if not line.strip(b"\x00 \r\t"):
            continue
        try:
            record = _DECODER.decode(line)
            broken += not _is_sound(record)
            records.append(record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            broken += 1
    return records, broken


def _is_sound(record: _Record) -> bool:
    """Whether a step has a number and times that can be."""
    if record.kind != "step":
        return True
    numbered = 0 <= record.step < 1 << 31
    return numbered and 0 <= record.start <= record.end and 0 < record.end_unix < 1 << 62


def _broken_lines(path: Path, broken: int) -> Issue:
    return Issue(
        code="STEP_LINES_UNREADABLE",
        severity="warning",
        message=f"{path.parent.name}/{path.name}: {broken} lines are damaged and were left out",
    )


def _missing_lines(path: Path, steps: Sequence[int]) -> list[Issue]:
    """Name the steps between others that have no line: a full disk takes none."""
    missing = steps[-1] - steps[0] + 1 - len(steps) if steps else 0
    if not missing:
        return []
    first = next(a + 1 for a, b in pairwise(steps) if b - a > 1)
    where = f"{path.parent.name}/{path.name}"
    text = f"{where}: {missing} steps from step {first} on have no line; was the disk full?"
    return [Issue(code="STEP_LINES_MISSING", severity="warning", message=text)]


def _set_clocks(steps: Sequence[_Record]) -> dict[int, int]:
    """Steps in which the wall clock moved otherwise than the monotonic one, and by how much."""
    moved = {
        after.step: (after.end_unix - after.end) - (before.end_unix - before.end)
        for before, after in pairwise(steps)
    }
    return {step: ns for step, ns in moved.items() if abs(ns) >= CLOCK_STEP_NS}


def _clock_set(path: Path, moved: Mapping[int, int]) -> list[Issue]:
    text = ", ".join(
        f"{'back' if ns < 0 else 'forward'} by {nanoseconds(abs(ns))} in step {step}"
        for step, ns in list(moved.items())[:3]
    )
    where = f"{path.parent.name}/{path.name}"
    message = f"{where}: the clock was set {text}: step times hold, a trace around it is left out"
    return [Issue(code="CLOCK_SET", severity="warning", message=message)] if moved else []


def _last_of_each(steps: Sequence[_Record]) -> list[_Record]:
    """Return the steps in order; of a step written twice the later line counts."""
    by_step = {record.step: record for record in steps}
    return [by_step[step] for step in sorted(by_step)]


def _step_lines(steps: Sequence[_Record]) -> StepLines:
    offset = _column(steps, lambda r: r.end_unix - r.end)
    return StepLines(
        index=_column(steps, lambda r: r.step).astype(np.int32),
        start_ns=_column(steps, lambda r: r.start) + offset,
        end_ns=_column(steps, lambda r: r.end_unix),
        input_wait_ns=_column(steps, lambda r: r.input_wait),
        checkpoint_ns=_column(steps, lambda r: r.checkpoint),
        micro_batches=_column(steps, lambda r: r.micro_batches).astype(np.int32),
        samples=_column(steps, lambda r: r.samples),
        tokens=_column(steps, lambda r: r.tokens),
        has_eval=_column(steps, lambda r: r.has_eval) > 0,
        profiled=_column(steps, lambda r: r.profiled) > 0,
        gc=_spans(steps, lambda r: r.gc),
        compile=_spans(steps, lambda r: r.compile),
        resident_bytes=_resident(steps),
        memory=_memory([r for r in steps if len(r.memory) >= _MEMORY_BYTES]),
    )


def _resident(steps: Sequence[_Record]) -> I64 | None:
    column = _column(steps, lambda r: r.resident[0])
    return column if (column != NONE).any() else None


def _memory(steps: Sequence[_Record]) -> StepMemory | None:
    if not steps:
        return None
    rows = [(*r.memory, NONE)[: _MEMORY_BYTES + 1] for r in steps]  # older lines hold no retries
    table = np.array([[_clipped(v) for v in row] for row in rows], np.int64)
    return StepMemory(
        index=_column(steps, lambda r: r.step).astype(np.int32),
        end_ns=_column(steps, lambda r: r.end_unix),
        allocated_bytes=table[:, 0],
        peak_allocated_bytes=table[:, 1],
        reserved_bytes=table[:, 2],
        peak_reserved_bytes=table[:, 3],
        retries=table[:, 4],
    )


def _column(steps: Sequence[_Record], value: Callable[[_Record], int]) -> I64:
    return np.fromiter((_clipped(value(record)) for record in steps), np.int64, len(steps))


def _clipped(value: int) -> int:
    return max(-(1 << 62), min(value, 1 << 62))


def _spans(steps: Sequence[_Record], pairs: Callable[[_Record], Sequence[Pair]]) -> Spans:
    """Return spans in Unix time, by the clock pair of their own step's line."""
    rows = [
        (start + record.end_unix - record.end, duration, record.step)
        for record in steps
        for start, duration in pairs(record)
    ]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Spans(start_ns=table[:, 0], duration_ns=table[:, 1], step=table[:, 2].astype(np.int32))

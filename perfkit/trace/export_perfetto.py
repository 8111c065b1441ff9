"""Writes a run as one trace that Perfetto opens: a process per rank, on one time axis.

The format is Chrome's trace events in JSON. Times are microseconds since the first event of the
run, to the nanosecond. Nothing from a trace is put into the file but as a JSON string or number.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.model import I64, NONE, RankTrace
from perfkit.trace.redaction import Redaction

STREAM_ROWS = 1_000_000
"""Device streams get thread numbers from here on: no two rows of a process may share one."""
DEVICE_ROWS = 1_000
LANE_ROWS = 100_000
MOST_LANES = 9
"""Slices of one row must nest: viewers drop or misdraw those that overlap otherwise."""
_LAST_BACKSLASH = re.compile(rb'(?<!\\)((?:\\\\)*)\\\\"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The common time axis: what to add to each rank's times, and where zero lies."""

    offsets_ns: Mapping[int, int]
    origin_ns: int


def perfetto(
    traces: Iterator[RankTrace], axis: Axis, about: Mapping[str, Any], redaction: Redaction
) -> Iterator[bytes]:
    """Yield the text of the trace, piece by piece, one rank after the other."""
    yield b'{"displayTimeUnit":"ns","otherData":' + _encode(dict(about)) + b',"traceEvents":[\n'
    yield _encode({"ph": "M", "name": "perfkit", "pid": 0, "args": {}})
    for trace in traces:
        shift = axis.offsets_ns.get(trace.rank, 0) - axis.origin_ns
        yield from _process(trace, redaction)
        yield from _steps(trace, shift)
        yield from _events(trace, shift, redaction)
    yield b"\n]}\n"


def _encode(value: object) -> bytes:
    """Return JSON in which no string ends with a backslash as such.

    Perfetto up to v52 takes the quote after one for a part of the string and refuses the file.
    """
    text = msgspec.json.encode(value)
    return _LAST_BACKSLASH.sub(rb'\1\\u005c"', text) if b'\\\\"' in text else text


def _step_row(rank: int) -> int:
    """Return the thread number of the steps: Perfetto puts the thread named as its process first.

    Thread 0 belongs to the system there. Host threads count on from here, so that no other thread
    of the process has its number.
    """
    return max(rank, 1)


def _process(trace: RankTrace, redaction: Redaction) -> Iterator[bytes]:
    host = redaction.host(trace.node)
    place = f" on {'node ' if host.isdigit() else ''}{host}" if host else ""
    steps = _step_row(trace.rank)
    yield _meta(trace.rank, 0, "process_name", {"name": f"rank {trace.rank}{place}"})
    yield _meta(trace.rank, 0, "process_sort_index", {"sort_index": trace.rank})
    yield _meta(trace.rank, steps, "thread_name", {"name": "steps"})
    yield _meta(trace.rank, steps, "thread_sort_index", {"sort_index": -1})
    events = trace.events
    placed, lanes = _rows(trace)
    rows, first = np.unique(placed, return_index=True)
    for row, index in zip(rows.tolist(), first.tolist(), strict=True):
        thread = int(events.thread[index])
        if events.kind[index] >= FIRST_DEVICE_KIND:
            name = f"device {int(events.device[index])} stream {thread}"
        elif thread in trace.training_threads:
            name = f"training thread {thread}"
        else:
            name = f"thread {thread}"
        lane = int(lanes[index])
        name += f" (overlapping {lane})" if lane else ""
        yield _meta(trace.rank, row, "thread_name", {"name": name})


def _rows(trace: RankTrace) -> tuple[I64, I64]:
    """Return each event's thread number and lane: training threads, other threads, streams.

    An event that overlaps another of its thread without being inside it gets a row beside, that is
    the next lane.
    """
    events = trace.events
    on_device = events.kind >= FIRST_DEVICE_KIND
    threads, rows = np.unique(events.thread, return_inverse=True)
    first = {thread: number for number, thread in enumerate(trace.training_threads)}
    order = np.argsort([first.get(t, len(first)) for t in threads.tolist()], kind="stable")
    host = np.argsort(order)[rows] + _step_row(trace.rank) + 1
    device = np.maximum(events.device.astype(np.int64), 0) * DEVICE_ROWS * DEVICE_ROWS
    placed = np.where(on_device, STREAM_ROWS + device + rows, host)
    lanes = _lanes(placed.tolist(), events.start_ns, events.end_ns)
    return placed + LANE_ROWS * lanes, lanes


def _lanes(rows: list[int], start_ns: I64, end_ns: I64) -> I64:
    """Return for each event the first lane of its row in which it nests; sorted by start."""
    open_ends: dict[tuple[int, int], list[int]] = {}
    lanes = np.zeros(len(rows), np.int64)
    spans = zip(rows, start_ns.tolist(), end_ns.tolist(), strict=True)
    for number, (row, start, end) in enumerate(spans):
        for lane in range(MOST_LANES):
            within = open_ends.setdefault((row, lane), [])
            while within and within[-1] <= start:
                within.pop()
            if not within or end <= within[-1]:
                break
        within.append(end)
        lanes[number] = lane
    return lanes


def _steps(trace: RankTrace, shift: int) -> Iterator[bytes]:
    steps = trace.steps
    for index, start, end in zip(
        steps.index.tolist(), steps.start_ns.tolist(), steps.end_ns.tolist(), strict=True
    ):
        head = b',\n{"ph":"X","cat":"step","name":"step %d","pid":%d,"tid":%d,' % (
            index,
            trace.rank,
            _step_row(trace.rank),
        )
        yield head + _times(start + shift, end - start) + b"}"


def _events(trace: RankTrace, shift: int, redaction: Redaction) -> Iterator[bytes]:
    events, rank = trace.events, trace.rank
    names = [_encode(redaction.text(name)) for name in events.names]
    kinds = {int(kind): kind.name.lower().encode() for kind in Kind}
    facts = _facts(trace)
    rows = _rows(trace)[0].tolist()
    columns = zip(
        events.kind.tolist(),
        events.name.tolist(),
        rows,
        (events.start_ns + shift).tolist(),
        events.duration_ns.tolist(),
        events.step.tolist(),
        events.launch.tolist(),
        strict=True,
    )
    starts = (events.start_ns + shift).tolist()
    for number, (kind, name, row, start, duration, step, launch) in enumerate(columns):
        args = facts.get(number, {})
        if step != NONE:
            args = {"step": step} | args
        body = b',\n{"ph":"X","cat":"%b","name":%b,"pid":%d,"tid":%d,' % (
            kinds[kind], names[name], rank, row,
        )  # fmt: skip
        yield body + _times(start, duration) + b',"args":%b}' % _encode(args)
        if launch != NONE and starts[launch] <= start:  # else clocks differ: no arrow goes back
            flow = rank * (1 << 32) + number
            yield _flow("s", flow, rank, rows[launch], starts[launch])
            yield _flow("f", flow, rank, row, start)


def _facts(trace: RankTrace) -> dict[int, dict[str, Any]]:
    """Return what is known of each collective, by its event."""
    said = trace.collectives
    found: dict[int, dict[str, Any]] = {}
    for row, event in enumerate(said.event.tolist()):
        group = int(said.group[row])
        facts: dict[str, Any] = {"collective": said.op[row]}
        if group != NONE:
            facts["group"] = trace.groups[group].name
        if said.sequence[row] != NONE:
            facts["sequence"] = int(said.sequence[row])
        if said.size_bytes[row] != NONE:
            facts["bytes"] = int(said.size_bytes[row])
        found[event] = facts
    return found


def _flow(phase: str, number: int, rank: int, row: int, start: int) -> bytes:
    text = b',\n{"ph":"%b","cat":"launch","name":"launch","id":%d,"pid":%d,"tid":%d,"bp":"e",'
    return text % (phase.encode(), number, rank, row) + b'"ts":' + _microseconds(start) + b"}"


def _meta(rank: int, row: int, name: str, args: Mapping[str, Any]) -> bytes:
    event = {"ph": "M", "name": name, "pid": rank, "tid": row, "args": args}
    return b",\n" + _encode(event)


def _times(start: int, duration: int) -> bytes:
    return b'"ts":' + _microseconds(start) + b',"dur":' + _microseconds(duration)


def _microseconds(ns: int) -> bytes:
    whole, part = divmod(abs(ns), 1000)
    return b"%b%d.%03d" % (b"-" if ns < 0 else b"", whole, part)


def origin_of(starts: Mapping[int, int], offsets: Mapping[int, int]) -> int:
    """Return the first moment of all ranks on the common axis."""
    return min((start + offsets.get(rank, 0) for rank, start in starts.items()), default=0)

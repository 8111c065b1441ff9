"""What NCCL says in the payloads of its NVTX ranges: communicator and bytes of each call.

An export holds them with `nsys export --include-blobs=true`. NVTX_EVENTS.binaryData is a header of
four 64-bit words (domain, schema, bytes of the payload, bytes in all) and the payload, whose fields
NVTX_PAYLOAD_SCHEMA_ENTRIES places. Source of the layout: nsys-ai's reader, which was checked on
exports of Nsight 2026; of the fields: NCCL's src/collectives.cc. A payload that does not agree with
its schema is counted and not used.

NCCL gives the bytes that one rank passes in (of reduce_scatter: gets back). S of nccl-tests is that
for all_reduce, broadcast, reduce, send and recv, and times the ranks of the communicator for
all_gather and reduce_scatter; the ranks are known if the communicator was made in the capture.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfkit.trace.collectives import Groups
from perfkit.trace.event_names import MAX_ELEMENTS, collective_op
from perfkit.trace.kineto_schema import Arguments
from perfkit.trace.model import I64, NONE, Collectives, Events
from perfkit.trace.nsys_db import Export
from perfkit.trace.nsys_processes import PID_BITS

_HEADER = struct.Struct("<QQQQ")
_WIDTHS = {5: "<I", 18: "<Q", 22: "<Q"}  # NVTX_PAYLOAD_ENTRY_TYPE: uint32, uint64, size_t
_COMMUNICATOR, _BYTES, _RANKS = "NCCL communicator ID", "Message size [bytes]", "No. of ranks"
_AS_PASSED = ("all_reduce", "broadcast", "reduce", "send", "recv")
_TIMES_RANKS = ("all_gather", "reduce_scatter")
_TID_MASK = (1 << PID_BITS) - 1


@dataclass(frozen=True, slots=True)
class Call:
    """One NCCL call that moves data; times in nanoseconds of the session."""

    thread: int
    start_ns: int
    end_ns: int
    op: str
    communicator: int
    passed_bytes: int


@dataclass(frozen=True, slots=True)
class Payloads:
    """The calls of one process, the ranks of its communicators, and what did not decode."""

    calls: tuple[Call, ...] = ()
    ranks: Mapping[int, int] | None = None
    undecoded: int = 0


@dataclass(frozen=True, slots=True)
class _Schema:
    size: int
    fields: tuple[tuple[str, int, str], ...]  # name, offset, format


def read_payloads(export: Export, process: int) -> Payloads:
    """Return what NCCL's ranges of one process (NONE: of all) carry."""
    if not export.has("NVTX_EVENTS", "start", "end", "binaryData"):
        return Payloads()
    schemas = _schemas(export)
    where, given = "binaryData IS NOT NULL", tuple[int, ...]()
    if process != NONE and export.has("NVTX_EVENTS", "globalTid"):
        where, given = f"{where} AND globalTid >> {PID_BITS} = ?", (process,)
    columns = ("start", "end", "globalTid", "textId", "domainId")
    rows, blobs = export.with_bytes("NVTX_EVENTS", columns, "binaryData", where, given)
    names = export.names(rows[:, 3])
    calls, ranks, undecoded = [], dict[int, int](), 0
    for (start, end, tid, text, domain), blob in zip(rows.tolist(), blobs, strict=True):
        said = decode(blob, domain, schemas)
        undecoded += said is None
        if not said or _COMMUNICATOR not in said:
            continue
        if _RANKS in said:
            ranks[said[_COMMUNICATOR]] = said[_RANKS]
        op = collective_op(names.get(text, ""))
        if op and _BYTES in said and end != NONE:
            call = Call(tid & _TID_MASK, start, end, op, said[_COMMUNICATOR], said[_BYTES])
            calls.append(call)
    return Payloads(tuple(calls), ranks, undecoded)


def _schemas(export: Export) -> dict[tuple[int, int], _Schema]:
    columns = ("domainId", "schemaId", "offset", "type")
    places, names = export.with_text("NVTX_PAYLOAD_SCHEMA_ENTRIES", columns, "name")
    fields: dict[tuple[int, int], dict[tuple[str, int, str], None]] = {}
    for (domain, schema, offset, kind), name in zip(places.tolist(), names, strict=True):
        if kind in _WIDTHS:  # an offset of zero is stored as NULL
            fields.setdefault((domain, schema), {})[name, max(offset, 0), _WIDTHS[kind]] = None
    sizes = export.integers("NVTX_PAYLOAD_SCHEMAS", ("domainId", "schemaId", "payloadSize"))
    return {
        (domain, schema): _Schema(size, tuple(fields.get((domain, schema), ())))
        for domain, schema, size in sizes.tolist()
        if size >= 0
    }


def decode(
    blob: bytes, domain: int, schemas: Mapping[tuple[int, int], _Schema]
) -> dict[str, int] | None:
    """Return the fields of a payload; None if it does not agree with a schema of its domain."""
    for data in _spellings(blob):
        if len(data) < _HEADER.size:
            continue
        named, schema_id, size, _ = _HEADER.unpack_from(data)
        schema = schemas.get((domain, schema_id))
        if named != domain or schema is None or schema.size != size:
            continue
        if len(data) != _HEADER.size + size:
            continue
        payload = data[_HEADER.size :]
        return {
            name: struct.unpack_from(form, payload, offset)[0]
            for name, offset, form in schema.fields
            if offset + struct.calcsize(form) <= size
        }
    return None


def _spellings(blob: bytes) -> Iterator[bytes]:
    """Yield the bytes as stored and, where they are hexadecimal digits, what those stand for."""
    yield blob
    try:
        yield bytes.fromhex(blob.decode("ascii"))
    except ValueError:
        return


def described(
    collectives: Collectives, events: Events, base_ns: int, payloads: Payloads, groups: Groups
) -> Collectives:
    """Return the collectives with communicator and size where payloads tell them.

    A kernel is told by the calls within the range that issued it, if that range issued no other
    kernel of communication: one kernel may carry several calls, but then which is not recorded.
    """
    if not payloads.calls:
        return collectives
    issuers = events.op[collectives.event].tolist()
    issued = Counter(issuers)
    by_thread: dict[int, list[Call]] = {}
    for call in sorted(payloads.calls, key=lambda one: one.start_ns):
        by_thread.setdefault(call.thread, []).append(call)
    starts = {thread: np.array([c.start_ns for c in own]) for thread, own in by_thread.items()}
    group, size = collectives.group.copy(), collectives.size_bytes.copy()
    for row, issuer in enumerate(issuers):
        if issuer == NONE or issued[issuer] > 1:
            continue
        thread = int(events.thread[issuer])
        start = int(events.start_ns[issuer]) - base_ns
        end = start + int(events.duration_ns[issuer])
        own = _within(by_thread.get(thread, ()), starts.get(thread), start, end)
        if own and len({call.communicator for call in own}) == 1:
            named = Arguments(group=f"nccl {own[0].communicator:016x}")
            group[row] = groups.find(named)
            size[row] = _bytes(collectives.op[row], own, payloads.ranks or {})
    return replace(collectives, group=group, size_bytes=size)


def _within(calls: Sequence[Call], starts: I64 | None, start: int, end: int) -> list[Call]:
    """Return the calls, sorted by start, that lie within a span."""
    if starts is None:
        return []
    first, last = np.searchsorted(starts, [start, end + 1]).tolist()
    return [call for call in calls[first:last] if call.end_ns <= end]


def _bytes(op: str, calls: Sequence[Call], ranks: Mapping[int, int]) -> int:
    """Return S of nccl-tests in bytes of one collective that these calls make up, or NONE."""
    if op == "all_to_all" and {call.op for call in calls} == {"send", "recv"}:
        return _checked(sum(call.passed_bytes for call in calls if call.op == "send"))
    if len(calls) != 1 or calls[0].op != op:
        return NONE
    if op in _TIMES_RANKS:
        known = ranks.get(calls[0].communicator, 0)
        return _checked(calls[0].passed_bytes * known) if known > 0 else NONE
    return _checked(calls[0].passed_bytes) if op in _AS_PASSED else NONE


def _checked(size: int) -> int:
    return size if 0 <= size < MAX_ELEMENTS else NONE

"""Joins the c10d flight recorder to a trace: gives transfers their communicator and sequence.

collectives.jsonl says of every collective when it was enqueued, in which group and with which
sequence number; the trace says when it ran. Three facts about PyTorch make the join exact:

* A gloo transfer appears in a trace only if it was enqueued while the profiler ran, and each gloo
  group runs its queue first in, first out on threads of its own. So per group, in order of start,
  the transfers in a trace are the entries created since the profiler began, in order of creation.
* An entry is created inside the host call (c10d::*, record_param_comms) that enqueues it.
* A NCCL kernel is linked to that call by its launch.

Transfers and entries are paired per group, operation, elements and dtype. Which group a gloo thread
works for shows in operations that only one group offers. A pairing that contradicts itself (a
transfer that starts before it was enqueued, more transfers than entries, a shift that cannot be
excluded) is discarded: those rows keep NONE and are counted. gloo's send and recv have no entries.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from perfkit.trace.collectives import number
from perfkit.trace.event_names import collective_op, message_bytes
from perfkit.trace.kinds import Kind
from perfkit.trace.linking import covered
from perfkit.trace.model import (
    I8,
    I32,
    I64,
    NONE,
    Collectives,
    Events,
    Issue,
    ProcessGroup,
    RankTrace,
)

CLOCK_SLACK_NS = 200_000
"""The profiler's clock and the wall clock are read apart: an entry may seem this much too late."""

POINT_TO_POINT = ("send", "recv")
Key = tuple[str, int, str]


class Entry(msgspec.Struct, frozen=True):
    """One line of collectives.jsonl."""

    group: str = ""
    description: str = ""
    seq: int = NONE
    op: str = ""
    sizes: list[list[int]] = msgspec.field(default_factory=list)
    out_sizes: list[list[int]] = msgspec.field(default_factory=list)
    dtypes: list[str] = msgspec.field(default_factory=list)
    created_ns: int = 0
    p2p: bool = False
    kind: str = msgspec.field(name="k", default="")

    @property
    def key(self) -> Key:
        """What a transfer must agree in."""
        op = collective_op(self.op) or self.op
        return op, elements(self.sizes), self.dtypes[0] if self.dtypes else ""


_DECODER = msgspec.json.Decoder(Entry)


def elements(sizes: Sequence[Sequence[int]]) -> int:
    """Return the elements of all tensors together; NONE if absurd."""
    total = 0
    for size in sizes:
        count = 1
        for length in size:
            count *= length
        total += count
    return number(total)


def read_entries(path: Path) -> list[Entry]:
    """Return the entries of collectives.jsonl in order of creation; none if there is no file."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entry = _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if entry.kind == "c" and not entry.p2p and entry.created_ns > 0:
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry.created_ns)


def join(trace: RankTrace, entries: Sequence[Entry], spans: Sequence[tuple[int, int]]) -> RankTrace:
    """Return the trace with group and sequence from the flight recorder where they were missing.

    `spans` says when the profiler ran (Unix ns), one pair a file. Host transfers also get the call
    that enqueued them in `events.op`.
    """
    if not entries or not len(trace.collectives):
        return trace
    kinds = trace.events.kind[trace.collectives.event]
    pairs = _host_pairs(trace, entries, np.flatnonzero(kinds == Kind.COMM_HOST), spans)
    pairs |= _kernel_pairs(trace, entries, np.flatnonzero(kinds == Kind.COMM_KERNEL))
    groups = list(trace.groups)
    group, sequence = trace.collectives.group.copy(), trace.collectives.sequence.copy()
    out_elements = trace.collectives.out_elements.copy()
    for row, entry in pairs.items():
        group[row] = _group_index(groups, entry)
        sequence[row] = number(entry.seq)
        out_elements[row] = max(int(out_elements[row]), elements(entry.out_sizes))
    collectives = _with_sizes(trace.collectives, group, sequence, out_elements)
    missing = _unpaired(trace, kinds, pairs)
    return replace(
        trace,
        collectives=collectives,
        groups=tuple(groups),
        events=_with_calls(trace.events, collectives, pairs),
        issues=trace.issues + _issues(missing, len(trace.collectives)),
    )


def _host_pairs(
    trace: RankTrace, entries: Sequence[Entry], rows: I64, spans: Sequence[tuple[int, int]]
) -> dict[int, Entry]:
    """Pair host transfers with entries, first in, first out per group and key."""
    facts, events = trace.collectives, trace.events
    pairs: dict[int, Entry] = {}
    for begin, end in spans:
        recorded = _enqueued_in_sight(events, [e for e in entries if begin <= e.created_ns <= end])
        offered: dict[Key, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for entry in recorded:
            offered[entry.key][entry.group].append(entry)
        starts = events.start_ns[facts.event[rows]]
        inside = rows[(starts >= begin) & (starts <= end)]
        inside = inside[np.argsort(events.start_ns[facts.event[inside]], kind="stable")]
        wanted: dict[Key, list[int]] = defaultdict(list)
        for row in inside.tolist():
            wanted[facts.op[row], int(facts.in_elements[row]), facts.dtype[row]].append(row)
        homes = _thread_groups(trace, wanted, offered)
        for key, same in wanted.items():
            pairs |= _pair_key(trace, same, offered[key], homes)
    return pairs


def _enqueued_in_sight(events: Events, entries: list[Entry]) -> list[Entry]:
    """Return the entries whose enqueueing call the profiler saw, if it saw such calls at all."""
    calls = np.flatnonzero(events.kind == Kind.COMM_CALL)
    if not len(calls) or not entries:
        return entries
    start = events.start_ns[calls] - CLOCK_SLACK_NS
    end = start + events.duration_ns[calls] + 2 * CLOCK_SLACK_NS
    seen = covered(start, end, np.array([entry.created_ns for entry in entries], np.int64))
    return [entry for entry, is_seen in zip(entries, seen, strict=True) if is_seen]


def _thread_groups(
    trace: RankTrace, wanted: dict[Key, list[int]], offered: dict[Key, dict[str, list[Entry]]]
) -> dict[int, str]:
    """Return the group of each gloo thread that a key of only one group gives away."""
    homes: dict[int, str] = {}
    for key, rows in wanted.items():
        if len(offered[key]) == 1:
            only = next(iter(offered[key]))
            homes |= {_thread(trace, row): only for row in rows}
    return homes


def _thread(trace: RankTrace, row: int) -> int:
    return int(trace.events.thread[trace.collectives.event[row]])


def _pair_key(
    trace: RankTrace, rows: list[int], offered: dict[str, list[Entry]], homes: dict[int, str]
) -> dict[int, Entry]:
    """Pair the transfers of one key; threads of unknown home join the one group left over."""
    pairs: dict[int, Entry] = {}
    known = {group: [r for r in rows if homes.get(_thread(trace, r)) == group] for group in offered}
    homeless = [row for row in rows if homes.get(_thread(trace, row)) not in offered]
    free = [group for group, own in known.items() if not own]
    if homeless and len(free) == 1:
        known[free[0]] = homeless
    for group, own in known.items():
        pairs |= _first_in_first_out(trace, own, offered[group])
    return pairs


def _first_in_first_out(
    trace: RankTrace, rows: list[int], entries: list[Entry]
) -> dict[int, Entry]:
    """Pair in order.

    Entries may exceed transfers: some were still running when the profiler stopped. Then a
    transfer is paired only if the next entry was created after it had begun.
    """
    if len(rows) > len(entries) or not rows:
        return {}
    starts = trace.events.start_ns[trace.collectives.event[rows]]
    created = np.array([entry.created_ns for entry in entries], np.int64)
    if (starts + CLOCK_SLACK_NS < created[: len(rows)]).any():
        return {}
    sure = np.ones(len(rows), np.bool_)
    if len(entries) > len(rows):
        sure = created[1 : len(rows) + 1] > starts
    return {row: entry for row, entry, is_sure in zip(rows, entries, sure, strict=False) if is_sure}


def _kernel_pairs(trace: RankTrace, entries: Sequence[Entry], rows: I64) -> dict[int, Entry]:
    """Pair kernels that lack a sequence number through the call in which the entry was created."""
    facts, events = trace.collectives, trace.events
    created = np.array([entry.created_ns for entry in entries], np.int64)
    pairs: dict[int, Entry] = {}
    for row in rows[facts.sequence[rows] == NONE].tolist():
        call = int(events.op[facts.event[row]])
        if call == NONE or events.kind[call] != Kind.COMM_CALL:
            continue
        begin = int(events.start_ns[call])
        first = int(np.searchsorted(created, begin))
        last = int(np.searchsorted(created, begin + int(events.duration_ns[call]), side="right"))
        group = facts.group[row]
        name = trace.groups[group].name if group != NONE else None
        fitting = [
            entry
            for entry in entries[first:last]
            if entry.key[0] == facts.op[row] and name in (None, entry.group)
        ]
        if len(fitting) == 1:
            pairs[row] = fitting[0]
    return pairs


def _group_index(groups: list[ProcessGroup], entry: Entry) -> int:
    for index, group in enumerate(groups):
        if group.name == entry.group:
            return index
    groups.append(ProcessGroup(name=entry.group, description=entry.description, ranks=()))
    return len(groups) - 1


def _with_sizes(facts: Collectives, group: I32, sequence: I64, out_elements: I64) -> Collectives:
    described = zip(facts.op, facts.in_elements, out_elements, facts.dtype, strict=True)
    sizes = [message_bytes(op, int(i), int(o), dtype) for op, i, o, dtype in described]
    return replace(
        facts,
        group=group,
        sequence=sequence,
        out_elements=out_elements,
        size_bytes=np.array(sizes, np.int64),
    )


def _with_calls(events: Events, facts: Collectives, pairs: dict[int, Entry]) -> Events:
    """Set `op` of host transfers to the call in which their entry was created."""
    calls = np.flatnonzero(events.kind == Kind.COMM_CALL)
    op = events.op.copy()
    for row, entry in pairs.items():
        event = facts.event[row]
        if events.kind[event] != Kind.COMM_HOST or not len(calls):
            continue
        last = int(np.searchsorted(events.start_ns[calls], entry.created_ns, side="right"))
        for call in calls[max(last - 8, 0) : last][::-1].tolist():
            if entry.created_ns < events.start_ns[call] + events.duration_ns[call]:
                op[event] = call
                break
    return replace(events, op=op)


def _unpaired(trace: RankTrace, kinds: I8, pairs: dict[int, Entry]) -> int:
    rows = np.flatnonzero(kinds == Kind.COMM_HOST).tolist()
    return sum(row not in pairs and trace.collectives.op[row] not in POINT_TO_POINT for row in rows)


def _issues(missing: int, count: int) -> tuple[Issue, ...]:
    if not missing:
        return ()
    return (
        Issue(
            code="COLLECTIVES_WITHOUT_SEQUENCE",
            severity="info",
            message=f"{missing} of {count} transfers could not be joined to the flight recorder; "
            "they are matched by order and shape",
        ),
    )

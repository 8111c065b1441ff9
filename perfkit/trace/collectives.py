"""Facts of the collectives in one trace: operation, data, communicator, from whatever says so.

A transfer is a COMM_KERNEL or COMM_HOST event. A kernel takes its facts from its own metadata,
else from the record_param_comms call that issued it, else only the operation from its name. A
host transfer (gloo) carries shapes and dtype; its communicator and sequence number stay NONE until
the flight recorder is joined (`flight.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from perfkit.trace.event_names import MAX_ELEMENTS, collective_op, dtype_name, message_bytes
from perfkit.trace.kinds import Kind
from perfkit.trace.kineto_schema import Arguments, parse_ranks
from perfkit.trace.model import I64, NONE, Collectives, Events, OpShape, ProcessGroup

WAIT = "wait"  # a pseudo-collective of c10d: no transfer
SEND_RECV = "send_recv"
BY_SEND_RECV = ("all_to_all", "send", "recv", "gather", "scatter")


@dataclass(slots=True)
class _Rows:
    """The columns of Collectives while they grow."""

    event: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    sequence: list[int] = field(default_factory=list)
    op: list[str] = field(default_factory=list)
    dtype: list[str] = field(default_factory=list)
    in_elements: list[int] = field(default_factory=list)
    out_elements: list[int] = field(default_factory=list)
    source_rank: list[int] = field(default_factory=list)
    target_rank: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Groups:
    """The communicators of one trace; those that only events name are added."""

    known: list[ProcessGroup]

    def find(self, arguments: Arguments) -> int:
        """Return the index of the communicator that an event names, NONE if it names none."""
        if arguments.group is None:
            return NONE
        name = str(arguments.group)
        for index, group in enumerate(self.known):
            if group.name == name:
                return index
        self.known.append(
            ProcessGroup(
                name=name,
                description=str(arguments.group_description or ""),
                ranks=_group_ranks(arguments),
            )
        )
        return len(self.known) - 1


def no_collectives() -> Collectives:
    """Return a table without rows."""
    return collectives_from(_Rows())


def read_collectives(
    events: Events, source_row: I64, metadata: Mapping[int, Arguments], groups: Groups
) -> Collectives:
    """Return one row per transfer among `events`.

    `source_row` (n,) maps events to the rows that `metadata` is keyed by; `groups` is extended.
    """
    rows = _Rows()
    transfers = np.flatnonzero((events.kind == Kind.COMM_KERNEL) | (events.kind == Kind.COMM_HOST))
    for event in transfers.tolist():
        said = _metadata(event, events, source_row, metadata)
        if said is not None:
            _add_described(rows, event, said, groups)
        elif int(events.kind[event]) == int(Kind.COMM_HOST):
            _add_host(rows, event, events)
        else:
            _add_kernel(rows, event, events)
    return collectives_from(rows)


def collectives_from(rows: _Rows) -> Collectives:
    """Freeze the columns and derive the message size."""
    described = zip(rows.op, rows.in_elements, rows.out_elements, rows.dtype, strict=True)
    return Collectives(
        event=np.array(rows.event, np.int32),
        group=np.array(rows.group, np.int32),
        sequence=np.array(rows.sequence, np.int64),
        op=tuple(rows.op),
        dtype=tuple(rows.dtype),
        in_elements=np.array(rows.in_elements, np.int64),
        out_elements=np.array(rows.out_elements, np.int64),
        size_bytes=np.array([message_bytes(*row) for row in described], np.int64),
        source_rank=np.array(rows.source_rank, np.int32),
        target_rank=np.array(rows.target_rank, np.int32),
    )


def _metadata(
    event: int, events: Events, source_row: I64, metadata: Mapping[int, Arguments]
) -> Arguments | None:
    own = metadata.get(int(source_row[event]))
    if own is not None and own.collective != WAIT:
        return own
    issuer = int(events.op[event])
    by_call = metadata.get(int(source_row[issuer])) if issuer != NONE else None
    return by_call if by_call is not None and by_call.collective != WAIT else None


def _add_described(rows: _Rows, event: int, said: Arguments, groups: Groups) -> None:
    _add(
        rows,
        event,
        op=collective_op(said.collective) or said.collective,
        group=groups.find(said),
        sequence=number(said.order),
        dtype=dtype_name(str(said.dtype or "")),
        in_elements=number(said.in_elements),
        out_elements=number(said.out_elements),
        source_rank=number(said.source_rank),
        target_rank=number(said.target_rank),
    )


def _add_kernel(rows: _Rows, event: int, events: Events) -> None:
    """Add a kernel without metadata: its name, and what the range around its launch adds.

    SendRecv and Generic kernels carry several operations; then the range (nccl:all_to_all) names
    it, unless the two contradict each other.
    """
    op = collective_op(events.names[events.name[event]])
    issuer = int(events.op[event])
    said = ""
    if issuer != NONE and int(events.kind[issuer]) == int(Kind.COMM_CALL):
        said = collective_op(events.names[events.name[issuer]])
    if said and (op == "" or (op == SEND_RECV and said in BY_SEND_RECV)):
        op = said
    if said != op or issuer == NONE:
        _add(rows, event, op=op)
    else:
        _add(rows, event, op=op, **_inputs(events, issuer))


def _add_host(rows: _Rows, event: int, events: Events) -> None:
    op = collective_op(events.names[events.name[event]])
    _add(rows, event, op=op, **_inputs(events, event))


class _Inputs(TypedDict):
    dtype: str
    in_elements: int


def _inputs(events: Events, row: int) -> _Inputs:
    """Return dtype and elements of the tensors that a range was recorded with."""
    index = int(events.shape[row])
    if index == NONE:
        return _Inputs(dtype="", in_elements=NONE)
    shape = events.shapes[index]
    dtype = next((d for d in map(dtype_name, shape.dtypes) if d), "")
    return _Inputs(dtype=dtype, in_elements=elements(shape) if shape.dims else NONE)


def _add(  # noqa: PLR0913 - one parameter per column
    rows: _Rows,
    event: int,
    *,
    op: str,
    group: int = NONE,
    sequence: int = NONE,
    dtype: str = "",
    in_elements: int = NONE,
    out_elements: int = NONE,
    source_rank: int = NONE,
    target_rank: int = NONE,
) -> None:
    rows.event.append(event)
    rows.op.append(op)
    rows.group.append(group)
    rows.sequence.append(sequence)
    rows.dtype.append(dtype)
    rows.in_elements.append(in_elements)
    rows.out_elements.append(out_elements)
    rows.source_rank.append(source_rank)
    rows.target_rank.append(target_rank)


def elements(shape: OpShape) -> int:
    """Return the elements of all inputs together, tensor lists included; NONE if absurd."""
    return number(sum(_count(item) for item in shape.dims))


def _count(dims: object) -> int:
    if not isinstance(dims, tuple):
        return 0
    if dims and all(isinstance(item, tuple) for item in dims):
        return sum(map(_count, dims))
    total = 1
    for size in dims:
        total *= size if isinstance(size, int) else 1
    return total if dims else 1


def number(value: object) -> int:
    """Return a count as int, or NONE."""
    try:
        result = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return NONE
    return int(result) if 0 <= result < MAX_ELEMENTS else NONE


def _group_ranks(arguments: Arguments) -> tuple[int, ...]:
    """Return the group's global ranks where the event lists them all, () otherwise."""
    ranks = parse_ranks(arguments.group_ranks)
    size = number(arguments.group_size)
    return ranks if ranks and size in (NONE, len(ranks)) else ()

"""Turns the rows of one process in an Nsight export into the columns of the event table.

Categories and the names of copies are spelled as Kineto spells them, so that the event table and
all that follows need not know where they came from. The names of tables and columns are spelled
here and in nsys_processes only.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfkit.trace.columns import Columns
from perfkit.trace.event_names import OS_RUNTIME
from perfkit.trace.model import I64, NONE, Bool
from perfkit.trace.nsys_db import Export
from perfkit.trace.nsys_processes import PID_BITS

TID_MASK = (1 << PID_BITS) - 1

_DEVICE = ("start", "end", "correlationId", "deviceId", "streamId")
_HOST = ("start", "end", "globalTid")
_RANGE_TYPES = (59, 60, 70, 71)  # push/pop and start/end ranges, of NVTX and of NVTX-T
_COPIES = {
    1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA", 8: "DtoD",
    9: "HtoH", 10: "PtoP", 11: "HtoD", 12: "DtoH", 13: "DtoD",
}  # fmt: skip
_MEMORY = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static")
_SYNCS = {1: "Event Sync", 2: "Stream Wait Event", 3: "Stream Sync", 4: "Context Sync"}
_VERSION = re.compile(r"_v\d{4,}|_pt[ds]z$")

# torch.autograd.profiler.emit_nvtx writes "aten::mm, seq = 12, op_id = 7, sizes = [[2, 3]]".
_TORCH = re.compile(r"(.+?), (?:seq|op_id|sizes) = ")
_SEQUENCE = re.compile(r", seq = (\d{1,18})\b")
# Marked by users, by FSDP and by us:
_TORCH_RANGE = re.compile(r"^Optimizer\.| \(|^ProfilerStep#|^##|^nn\.Module: ")


@dataclass(slots=True)
class Left:
    """What was left out of the columns, by reason."""

    open_ranges: int = 0  # NVTX ranges without an end
    graph_traces: int = 0  # whole CUDA graphs recorded as one event each


@dataclass(slots=True)
class _Rows:
    """Groups of rows while they are collected."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)

    def add(self, category: str, names: Iterable[str], times: I64, **columns: Any) -> None:
        """Append rows of one category; `times` has columns start and end."""
        count = len(times)
        if not count:
            return
        number = self.names
        named = (number.setdefault(name, len(number)) for name in names)
        part: dict[str, Any] = {
            "start_ns": times[:, 0],
            "duration_ns": times[:, 1] - times[:, 0],
            "category": np.full(count, self.categories.setdefault(category, len(self.categories))),
            "name": np.fromiter(named, np.int32, count),
        }
        self.parts.append(part | columns)

    def columns(self, process: int) -> Columns:
        """Return all rows; columns that a group does not have are NONE."""
        count = sum(len(part["start_ns"]) for part in self.parts)
        nothing = np.full(count, NONE, np.int64)
        return Columns(
            start_ns=self._joined("start_ns", np.int64),
            duration_ns=self._joined("duration_ns", np.int64),
            category=self._joined("category", np.int32),
            name=self._joined("name", np.int32),
            process=np.full(count, process, np.int64),
            thread=self._joined("thread", np.int64),
            external=nothing,
            correlation=self._joined("correlation", np.int64),
            device=self._joined("device", np.int16),
            stream=self._joined("stream", np.int64),
            size_bytes=self._joined("size_bytes", np.int64),
            sequence=self._joined("sequence", np.int64),
            forward=np.zeros(count, np.bool_),
            shape=nothing.astype(np.int32),
            finished=np.ones(count, np.bool_),
            categories=tuple(self.categories),
            names=tuple(self.names),
            shapes=(),
        )

    def _joined(self, name: str, dtype: type) -> Any:
        values: list[Any] = [np.zeros(0, dtype)]
        for part in self.parts:
            column = part.get(name)
            values.append(np.full(len(part["start_ns"]), NONE) if column is None else column)
        return np.concatenate(values).astype(dtype)


def read_columns(export: Export, process: int, *, alone: bool) -> tuple[Columns, Left]:
    """Return all rows of one process, and what was left out.

    `alone`: no other process put work on a device, so device rows without an owner are its own.
    Raises InputError if the file is damaged.
    """
    rows, left = _Rows(), Left()
    of_device = _Owner(export, process if not alone else NONE, "globalPid")
    of_host = _Owner(export, process, "globalTid")
    _add_kernels(rows, of_device, left)
    _add_copies(rows, of_device)
    _add_calls(rows, of_host)
    _add_ranges(rows, of_host, left)
    return rows.columns(process), left


@dataclass(frozen=True, slots=True)
class _Owner:
    """The rows of one process in the tables of an export; NONE: all rows."""

    export: Export
    process: int
    column: str

    def integers(self, table: str, columns: tuple[str, ...]) -> I64:
        """Return integer columns of this process's rows."""
        return self.export.integers(table, columns, *self._mine(table))

    def named(self, ids: I64, otherwise: str) -> list[str]:
        """Return the string of each id."""
        known = self.export.names(ids)
        return [known.get(one, otherwise) for one in ids.tolist()]

    def with_text(
        self, table: str, columns: tuple[str, ...], text: str, where: str
    ) -> tuple[I64, list[str]]:
        """Return integer columns and a text column of this process's rows."""
        mine, given = self._mine(table)
        condition = " AND ".join(part for part in (mine, where) if part)
        return self.export.with_text(table, columns, text, condition, given)

    def _mine(self, table: str) -> tuple[str, tuple[int, ...]]:
        if self.process == NONE or not self.export.has(table, self.column):
            return "", ()
        return f"{self.column} >> {PID_BITS} = ?", (self.process,)


def _device(table: I64) -> dict[str, I64]:
    return {"correlation": table[:, 2], "device": _small(table[:, 3]), "stream": table[:, 4]}


def _small(values: I64) -> I64:
    """Return device numbers; those that no machine has become NONE."""
    return np.where(np.abs(values) < 1 << 15, values, NONE)


def _add_kernels(rows: _Rows, owner: _Owner, left: Left) -> None:
    table = owner.integers("CUPTI_ACTIVITY_KIND_KERNEL", (*_DEVICE, "demangledName", "shortName"))
    name = np.where(table[:, 5] == NONE, table[:, 6], table[:, 5])
    rows.add("kernel", owner.named(name, "unknown kernel"), table, **_device(table))
    graphs = owner.integers("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", (*_DEVICE, "graphId"))
    left.graph_traces = len(graphs)
    named = (f"CUDA graph {number}" for number in graphs[:, 5].tolist())
    rows.add("kernel", named, graphs, **_device(graphs))


def _add_copies(rows: _Rows, owner: _Owner) -> None:
    wanted = (*_DEVICE, "bytes", "copyKind", "srcKind", "dstKind", "srcDeviceId", "dstDeviceId")
    table = owner.integers("CUPTI_ACTIVITY_KIND_MEMCPY", wanted)
    names = [_copy_name(*row) for row in table[:, 6:].tolist()]
    rows.add("gpu_memcpy", names, table, size_bytes=table[:, 5], **_device(table))
    table = owner.integers("CUPTI_ACTIVITY_KIND_MEMSET", (*_DEVICE, "bytes", "memKind"))
    names = [f"Memset ({_memory(kind)})" for kind in table[:, 6].tolist()]
    rows.add("gpu_memset", names, table, size_bytes=table[:, 5], **_device(table))


def _copy_name(kind: int, source: int, target: int, source_device: int, target_device: int) -> str:
    way = _COPIES.get(kind, "DtoD")
    if (
        way == "DtoD"
        and source_device != target_device
        and NONE not in (source_device, target_device)
    ):
        way = "PtoP"
    return f"Memcpy {way} ({_memory(source)} -> {_memory(target)})"


def _memory(kind: int) -> str:
    return _MEMORY[kind] if 0 <= kind < len(_MEMORY) else "Unknown"


def _add_calls(rows: _Rows, owner: _Owner) -> None:
    table = owner.integers("CUPTI_ACTIVITY_KIND_RUNTIME", (*_HOST, "correlationId", "nameId"))
    names = [_VERSION.sub("", name) for name in owner.named(table[:, 4], "unknown call")]
    rows.add("cuda_runtime", names, table, thread=_threads(table), correlation=table[:, 3])
    table = owner.integers("OSRT_API", (*_HOST, "nameId"))
    rows.add(OS_RUNTIME, owner.named(table[:, 3], "unknown call"), table, thread=_threads(table))
    for overhead in ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"):
        table = owner.integers(overhead, (*_HOST, "nameId"))
        names = owner.named(table[:, 3], "profiler")
        rows.add("overhead", names, table, thread=_threads(table))
    wanted = ("start", "end", "correlationId", "deviceId", "streamId", "syncType")
    device = _Owner(owner.export, owner.process, "globalPid")
    table = device.integers("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", wanted)
    names = [_SYNCS.get(kind, "Sync") for kind in table[:, 5].tolist()]
    rows.add("cuda_sync", names, table, **_device(table))


def _threads(table: I64) -> I64:
    return np.where(table[:, 2] == NONE, NONE, table[:, 2] & TID_MASK)


def _add_ranges(rows: _Rows, owner: _Owner, left: Left) -> None:
    export = owner.export
    if not export.has("NVTX_EVENTS", "start", "end"):
        return
    marks = ", ".join(map(str, _RANGE_TYPES))
    typed = f"eventType IN ({marks})" if export.has("NVTX_EVENTS", "eventType") else ""
    table, texts = owner.with_text("NVTX_EVENTS", (*_HOST, "textId"), "text", typed)
    registered = export.names(table[:, 3])
    closed: Bool = table[:, 1] != NONE
    left.open_ranges = int((~closed).sum())
    said = zip(texts, table[:, 3].tolist(), strict=True)
    parsed = [_torch_op(text or registered.get(number, "unnamed")) for text, number in said]
    is_op = np.array([op for op, _, _ in parsed], np.bool_)
    sequence = np.array([number for _, _, number in parsed], np.int64)
    for category, chosen in (("cpu_op", is_op & closed), ("user_annotation", ~is_op & closed)):
        some = np.flatnonzero(chosen)
        rows.add(
            category,
            [parsed[row][1] for row in some.tolist()],
            table[some],
            thread=_threads(table)[some],
            sequence=sequence[some],
        )


def _torch_op(text: str) -> tuple[bool, str, int]:
    """Return whether a range is an operator of torch's, its name, and its sequence number."""
    found = _TORCH.match(text)
    if found is None:
        return False, text, NONE
    sequence = _SEQUENCE.search(text, found.end(1))
    name = found[1]
    is_op = _TORCH_RANGE.search(name) is None
    return is_op, name, int(sequence[1]) if sequence else NONE

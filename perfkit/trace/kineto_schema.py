"""The raw keys of a Kineto trace: the only module that spells them.

`Event` and `Arguments` are what msgspec decodes of one event; keys that are not listed are skipped
unread. `TraceFacts` is what the document says around its events. reference: PyTorch writes these
files in libkineto's output_json.cpp; the keys changed over the years and all spellings are here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from perfkit.trace.model import MAX_RANKS, NONE, DeviceFacts, ProcessGroup

EVENTS_KEY = b"traceEvents"
EVENT_KEYS = (b"ph", b"cat", b"name", b"pid", b"tid", b"ts", b"dur", b"args", b"id", b"s", b"bp")
"""Keys that an event object may begin with; the text splitter looks for them."""

TIME_KEYS = ("ts", "dur")

NO_JSON = msgspec.Raw(b"")
Loose = int | float | str | None


class Arguments(msgspec.Struct, gc=False):
    """The `args` of an event. Values that identify shapes stay undecoded until they are needed."""

    external: int = msgspec.field(name="External id", default=NONE)
    correlation: int = NONE
    device: int = NONE
    stream: int | float | str = NONE
    bytes: int | float | str = NONE
    dims: msgspec.Raw = msgspec.field(name="Input Dims", default=NO_JSON)
    types: msgspec.Raw = msgspec.field(name="Input type", default=NO_JSON)
    concrete: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=NO_JSON)
    strides: msgspec.Raw = msgspec.field(name="Input Strides", default=NO_JSON)
    sequence: int = msgspec.field(name="Sequence number", default=NONE)
    forward_thread: int = msgspec.field(name="Fwd thread id", default=0)
    collective: str = msgspec.field(name="Collective name", default="")
    group: Loose = msgspec.field(name="Process Group Name", default=None)
    group_description: Loose = msgspec.field(name="Process Group Description", default=None)
    group_ranks: Loose | list[int] = msgspec.field(name="Process Group Ranks", default=None)
    group_size: Loose = msgspec.field(name="Group size", default=None)
    rank_start: Loose = msgspec.field(name="Global rank start", default=None)
    rank_stride: Loose = msgspec.field(name="Global rank stride", default=None)
    dtype: Loose = None
    in_elements: Loose = msgspec.field(name="In msg nelems", default=None)
    out_elements: Loose = msgspec.field(name="Out msg nelems", default=None)
    order: Loose = msgspec.field(name="Seq", default=None)
    source_rank: Loose = msgspec.field(name="Src Rank", default=None)
    target_rank: Loose = msgspec.field(name="Dst Rank", default=None)
    total_allocated: int | float | str = msgspec.field(name="Total Allocated", default=NONE)
    total_reserved: int | float | str = msgspec.field(name="Total Reserved", default=NONE)
    device_id: int | float | str = msgspec.field(name="Device Id", default=NONE)
    device_type: int | float | str = msgspec.field(name="Device Type", default=NONE)
    finished: bool = True
    label: Any = msgspec.field(name="name", default=None)
    old_external: int = msgspec.field(name="external id", default=NONE)
    old_dims: msgspec.Raw = msgspec.field(name="Input dims", default=NO_JSON)


class Event(msgspec.Struct, gc=False):
    """One event. `ts` and `dur` are microseconds, whatever displayTimeUnit says.

    Without `ts` an event has no place: its time is no number.
    """

    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: Loose = None
    tid: Loose = None
    ts: float = math.nan
    dur: float = 0.0
    args: Arguments | None = None


class ExactEvent(msgspec.Struct, gc=False):
    """An event whose time stamp needs more digits than a double holds, kept as text."""

    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: Loose = None
    tid: Loose = None
    ts: msgspec.Raw = NO_JSON
    dur: float = 0.0
    args: Arguments | None = None


class MarkArguments(msgspec.Struct, gc=False):
    """What tells the processes of a merged file apart."""

    correlation: int = NONE
    label: Any = msgspec.field(name="name", default=None)
    labels: Any = None


class Mark(msgspec.Struct, gc=False):
    """As little of an event as shows whose it is."""

    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: Loose = None
    ts: float = 0.0
    args: MarkArguments | None = None


OPERATOR_OF = re.compile(rb'"cat"\s*:\s*"cpu_op"[^{}]*?"pid"\s*:\s*("[^"]*"|-?\d+)\s*[,}]')
"""The process of an operator, in undecoded text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What a document says beside its events. `base_ns` is None where it does not say."""

    rank: int = NONE
    world_size: int = 0
    backend: str = ""
    groups: tuple[ProcessGroup, ...] = ()
    devices: tuple[DeviceFacts, ...] = ()
    base_ns: int | None = None
    host: str = ""
    amd: bool = False  # the runtime or the devices are AMD's
    with_stack: bool = False

    def updated(self, document: Mapping[str, Any]) -> "TraceFacts":
        """Return these facts with what `document` adds; malformed values count as absent."""
        distributed = _mapping(document.get("distributedInfo"))
        devices = _devices(document.get("deviceProperties"))
        properties = _list(document.get("deviceProperties"))
        return replace(
            self,
            rank=_count(distributed.get("rank"), self.rank),
            world_size=_count(distributed.get("world_size"), self.world_size),
            backend=_text(distributed.get("backend")) or self.backend,
            groups=_groups(distributed.get("pg_config")) or self.groups,
            devices=devices or self.devices,
            base_ns=_base(document.get("baseTimeNanoseconds"), self.base_ns),
            host=_text(document.get("host_name")) or self.host,
            amd=self.amd or "hip_runtime_version" in document or _is_amd(properties),
            with_stack=self.with_stack or bool(document.get("with_stack")),
        )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """Return text that can be written again: half of a surrogate pair becomes "?"."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def _integer(value: object, default: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return default
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return default
    return number if abs(number) < 1 << 62 else default


def _count(value: object, default: int) -> int:
    """Return a rank or a number of ranks; what cannot be one counts as absent."""
    number = _integer(value, NONE)
    return number if 0 <= number <= MAX_RANKS else default


def _base(value: object, default: int | None) -> int | None:
    base = _integer(value, NONE)
    return base if 0 < base < 1 << 62 else default


def _is_amd(properties: list[Any]) -> bool:
    return any(
        _mapping(entry).get("warpSize") == 64
        or "maxSharedMemoryPerMultiProcessor" in _mapping(entry)
        for entry in properties
    )


def _devices(value: object) -> tuple[DeviceFacts, ...]:
    found: list[DeviceFacts] = []
    for entry in map(_mapping, _list(value)):
        major, minor = entry.get("computeMajor"), entry.get("computeMinor")
        found.append(
            DeviceFacts(
                index=_integer(entry.get("id"), len(found)),
                name=_text(entry.get("name")),
                memory_bytes=_integer(entry.get("totalGlobalMem"), 0),
                compute_capability=f"{major}.{minor}" if major is not None else "",
                multiprocessors=_integer(entry.get("numSms"), 0),
            )
        )
    return tuple(found)


def parse_ranks(value: object) -> tuple[int, ...]:
    """Return the ranks of a list, or of its text "[0, 1]"; () if shortened or malformed."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return ()
    entries = _list(value)
    fine = all(type(entry) is int and 0 <= entry <= MAX_RANKS for entry in entries)
    return tuple(entries) if fine else ()


def _groups(value: object) -> tuple[ProcessGroup, ...]:
    return tuple(
        ProcessGroup(
            name=_text(entry.get("pg_name")),
            description=_text(entry.get("pg_desc")),
            ranks=parse_ranks(entry.get("ranks")),
            backend=_text(entry.get("backend_config")),
        )
        for entry in map(_mapping, _list(value))
    )

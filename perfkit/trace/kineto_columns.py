"""Turns decoded events into columns, batch by batch, so that Python objects never pile up."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from perfkit.trace import event_names
from perfkit.trace.columns import Columns
from perfkit.trace.kineto_schema import NO_JSON, Arguments, Event, ExactEvent, Loose
from perfkit.trace.model import I32, I64, NONE, OpShape

INEXACT_US = float(1 << 43)
"""From here on a double is too coarse for nanoseconds in microseconds with three decimals."""

NO_ARGUMENTS = Arguments()
FAR = np.int64(1) << 62
AnyEvent = Event | ExactEvent


class NeedsExactTime(Exception):  # noqa: N818 - a signal to decode again, not an error
    """A batch holds time stamps with more digits than a double has."""


class _Index(dict[Any, int]):
    """Numbers distinct keys in order of first use."""

    def __missing__(self, key: Any) -> int:
        self[key] = number = len(self)
        return number


@dataclass(slots=True)
class Extras:
    """What the columns do not hold: few of each in a file."""

    collectives: dict[int, Arguments] = field(default_factory=dict)  # by row of Columns
    memory: list[I64] = field(default_factory=list)  # (k, 4): at, device, allocated, reserved
    thread_names: dict[int, str] = field(default_factory=dict)
    bad_times: int = 0  # events whose time stamp or duration is no number
    phases: set[str] = field(default_factory=set)


class ColumnBuilder:
    """Collects batches of events; `finish` returns the columns."""

    def __init__(self, *, keep_python: bool, processes: frozenset[Loose] | None = None) -> None:
        self._processes = processes  # None: all
        self._skip = () if keep_python else (event_names.PYTHON,)
        self._categories = _Index()
        self._names = _Index()
        self._shape_keys = _Index()
        self._texts = _Index()  # processes that are named by text
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._rows = 0
        self.extras = Extras()

    def add(self, events: Sequence[AnyEvent]) -> None:
        """Append one batch. Raises NeedsExactTime before anything of it is kept."""
        if self._processes is not None:
            events = [event for event in events if event.pid in self._processes]
        complete = [event for event in events if event.ph == "X"]
        if len(complete) != len(events):
            self._add_others(events)
        if self._skip:
            complete = [e for e in complete if e.cat not in self._skip or _is_module(e.name)]
        start_ns = _starts(complete)
        duration_ns = _durations(complete)
        good = (start_ns < FAR) & (duration_ns < FAR)
        if not good.all():
            self.extras.bad_times += int(len(good) - good.sum())
            complete = [event for event, fine in zip(complete, good, strict=True) if fine]
            start_ns, duration_ns = start_ns[good], duration_ns[good]
        if complete:
            self._append(complete, start_ns, duration_ns)

    def _append(self, events: list[AnyEvent], start_ns: I64, duration_ns: I64) -> None:
        count = len(events)
        args = [event.args or NO_ARGUMENTS for event in events]
        category = _numbers(self._categories, map(_CATEGORY, events), count)
        collect = self._collect
        collect("start_ns", start_ns)
        collect("duration_ns", duration_ns)
        collect("category", category)
        collect("name", _numbers(self._names, map(_NAME, events), count))
        collect("process", self._process_numbers(events))
        collect("thread", integers(map(_THREAD, events), count))
        external = integers(map(_EXTERNAL, args), count)
        if (external == NONE).any():
            old = integers(map(_OLD_EXTERNAL, args), count)
            external = np.where(external == NONE, old, external)
        collect("external", external)
        collect("correlation", integers(map(_CORRELATION, args), count))
        collect("device", integers(map(_DEVICE, args), count).astype(np.int16))
        collect("stream", integers(map(_STREAM, args), count))
        collect("size_bytes", integers(map(_BYTES, args), count))
        collect("sequence", integers(map(_SEQUENCE, args), count))
        collect("forward", integers(map(_FORWARD, args), count) > 0)
        collect("shape", self._shapes_of(args))
        collect("finished", np.fromiter(map(_FINISHED, args), np.bool_, count))
        for row, said in enumerate(map(_COLLECTIVE, args)):
            if said:
                self.extras.collectives[self._rows + row] = _light(args[row])
        self._rows += count

    def _process_numbers(self, events: list[AnyEvent]) -> I64:
        """Return process ids; processes named by text are told apart by numbers below NONE."""
        listed = [_PROCESS(event) for event in events]
        numbers = integers(listed, len(listed))
        for row in np.flatnonzero(numbers == NONE).tolist():
            if isinstance(listed[row], str) and listed[row] != "-1":
                numbers[row] = NONE - 1 - self._texts[listed[row]]
        return numbers

    def _collect(self, column: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(column, []).append(values)

    def _shapes_of(self, args: list[Arguments]) -> I32:
        shape = np.full(len(args), NONE, np.int32)
        keys = self._shape_keys
        for row, a in enumerate(args):
            dims = a.dims if a.dims is not NO_JSON else a.old_dims
            if dims is not NO_JSON:
                shape[row] = keys[bytes(dims), bytes(a.types), bytes(a.concrete), bytes(a.strides)]
        return shape

    def _add_others(self, events: Iterable[AnyEvent]) -> None:
        extras = self.extras
        instants: list[AnyEvent] = []
        for event in events:
            phase = event.ph
            if phase in "Xsft":  # flows repeat what correlation ids say
                continue
            if phase == "i" and event.name == "[memory]" and event.args is not None:
                instants.append(event)
            elif phase == "M" and event.name == "thread_name" and event.args is not None:
                # Later names of the same thread are its process's: the first one tells more.
                extras.thread_names.setdefault(_integer(event.tid), str(event.args.label))
            else:
                extras.phases.add(phase)
        if instants:
            extras.memory.append(_memory(instants))

    def finish(self) -> Columns:
        """Return everything that was added."""
        empty = {"category": np.int32, "name": np.int32, "device": np.int16, "shape": np.int32}
        flags = {"forward": np.bool_, "finished": np.bool_}
        columns: dict[str, Any] = {}
        for column in Columns.__dataclass_fields__:
            if column in ("categories", "names", "shapes"):
                continue
            parts = self._parts.pop(column, [])
            kind = empty.get(column) or flags.get(column) or np.int64
            columns[column] = np.concatenate(parts) if parts else np.zeros(0, kind)
        return Columns(
            **columns,
            categories=tuple(str(key or "") for key in self._categories),
            names=tuple(self._names),
            shapes=tuple(_shape(*key) for key in self._shape_keys),
        )


_CATEGORY: Callable[[Any], Any] = attrgetter("cat")
_NAME: Callable[[Any], Any] = attrgetter("name")
_PROCESS: Callable[[Any], Any] = attrgetter("pid")
_THREAD: Callable[[Any], Any] = attrgetter("tid")
_START: Callable[[Any], Any] = attrgetter("ts")
_DURATION: Callable[[Any], Any] = attrgetter("dur")
_EXTERNAL: Callable[[Any], Any] = attrgetter("external")
_OLD_EXTERNAL: Callable[[Any], Any] = attrgetter("old_external")
_CORRELATION: Callable[[Any], Any] = attrgetter("correlation")
_DEVICE: Callable[[Any], Any] = attrgetter("device")
_STREAM: Callable[[Any], Any] = attrgetter("stream")
_BYTES: Callable[[Any], Any] = attrgetter("bytes")
_SEQUENCE: Callable[[Any], Any] = attrgetter("sequence")
_FORWARD: Callable[[Any], Any] = attrgetter("forward_thread")
_FINISHED: Callable[[Any], Any] = attrgetter("finished")
_COLLECTIVE: Callable[[Any], Any] = attrgetter("collective")
_MEMORY = (
    attrgetter("device_type"),
    attrgetter("device_id"),
    attrgetter("total_allocated"),
    attrgetter("total_reserved"),
)


def _light(arguments: Arguments) -> Arguments:
    """Drop what points into the batch's text, which would stay in memory with it."""
    arguments.dims = arguments.types = arguments.concrete = arguments.strides = NO_JSON
    arguments.old_dims = NO_JSON
    return arguments


def _is_module(name: str) -> bool:
    return name.startswith("nn.Module: ")


def _numbers(index: _Index, keys: Iterable[Any], count: int) -> I32:
    return np.fromiter(map(index.__getitem__, keys), np.int32, count)


def integers(values: Iterable[Any], count: int) -> I64:
    """Return `values` as int64; what is no integer within 64 bits becomes NONE."""
    listed = list(values)
    try:
        return np.fromiter(listed, np.int64, count)
    except (TypeError, ValueError, OverflowError):
        return np.fromiter(map(_integer, listed), np.int64, count)


def _integer(value: object) -> int:
    """Return a number, or the digits that end a text such as "stream 7"; NONE where there are none.

    Threads named by text (the profiler's own rows) become NONE, too.
    """
    if isinstance(value, str):
        value = value.rsplit(" ", 1)[-1]
    if isinstance(value, (int, float, str)):
        try:
            number = int(value)
        except (ValueError, OverflowError):
            return NONE
        return number if -(1 << 63) <= number < 1 << 63 else NONE
    return NONE


def nanoseconds(microseconds: NDArray[np.float64]) -> I64:
    """Return microseconds with up to three decimals as integer nanoseconds; no number: FAR."""
    fine = np.abs(microseconds) < float(FAR) / 1000
    whole = np.floor(np.where(fine, microseconds, 0.0))
    part = np.rint((np.where(fine, microseconds, 0.0) - whole) * 1000.0)
    result: I64 = whole.astype(np.int64) * 1000 + part.astype(np.int64)
    return np.where(fine, result, FAR)


def exact_nanoseconds(text: bytes) -> int:
    """Return decimal microseconds as integer nanoseconds, digit by digit; no number: FAR."""
    whole, _, part = text.strip(b' "').partition(b".")
    try:
        return int(whole) * 1000 + int((part + b"000")[:3])
    except ValueError:
        return int(nanoseconds(np.array([_float(text)]))[0])


def _float(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _starts(events: list[AnyEvent]) -> I64:
    count = len(events)
    if events and isinstance(events[0], ExactEvent):
        exact = (exact_nanoseconds(bytes(_START(event))) for event in events)
        clipped = (at if abs(at) < 1 << 62 else 1 << 62 for at in exact)
        return np.fromiter(clipped, np.int64, count)
    starts = np.fromiter(map(_START, events), np.float64, count)
    large = starts[starts > INEXACT_US]
    if len(large) and _has_fraction(large, events):
        raise NeedsExactTime
    return nanoseconds(starts)


def _has_fraction(starts: NDArray[np.float64], events: list[AnyEvent]) -> bool:
    """Whether the file writes nanoseconds: a fraction in any start or duration of the batch."""
    if bool((starts % 1.0 != 0.0).any()):
        return True
    durations = np.fromiter(map(_DURATION, events), np.float64, len(events))
    return bool((durations % 1.0 != 0.0).any())


def _durations(events: list[AnyEvent]) -> I64:
    return nanoseconds(np.fromiter(map(_DURATION, events), np.float64, len(events)))


def _memory(instants: list[AnyEvent]) -> I64:
    """Return (k, 4) allocator samples: time, device (NONE: host), allocated, reserved bytes."""
    args = [event.args for event in instants]
    kind, device, allocated, reserved = (integers(map(of, args), len(args)) for of in _MEMORY)
    at = _starts(instants)
    device = np.where(kind == 0, NONE, device)
    table = np.stack([at, device, allocated, reserved], axis=1)
    usable: I64 = table[(allocated != NONE) & (np.abs(at) < FAR)]
    return usable


def _shape(dims: bytes, types: bytes, concrete: bytes, strides: bytes) -> OpShape:
    return OpShape(
        dims=_nested(dims),
        dtypes=tuple(str(item) for item in _nested(types)),
        concrete=tuple(str(item) for item in _nested(concrete)),
        strides=_nested(strides),
    )


def _nested(text: bytes) -> tuple[object, ...]:
    try:
        value = msgspec.json.decode(text) if text else ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    frozen = _frozen(value)
    return frozen if isinstance(frozen, tuple) else ()


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

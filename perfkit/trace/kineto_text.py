"""Cuts the text of a trace into pieces of whole events, and finds what stands around them.

A document is `{head "traceEvents": [events] tail}` or a bare array. Events are decoded chunk by
chunk at full speed; where a chunk does not decode (the array's end, a torn file, NaN, a broken
string) its events are decoded one by one, and what cannot be decoded is counted, not guessed.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from perfkit.trace.kineto_schema import (
    EVENT_KEYS,
    EVENTS_KEY,
    TIME_KEYS,
    Event,
    ExactEvent,
)
from perfkit.trace.source import Source
from perfkit.trace.whatis import BYTE_ORDER_MARK, describe

AnyEvent = Event | ExactEvent
Decode = Callable[[bytes], list[AnyEvent]]

BOUNDARY = re.compile(rb"\}\s*,\s*(?=\{\s*\"(?:" + b"|".join(EVENT_KEYS) + rb")\"\s*:)")
ARRAY_END = re.compile(rb"\}\s*\]")
ARRAY_START = re.compile(rb"\"" + EVENTS_KEY + rb"\"\s*:\s*(?:\[|null)")
HEAD_LIMIT = 64 << 20
EVENT_LIMIT = 64 << 20
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
JOIN_LIMIT = 4
"""A boundary may stand inside a string: so many pieces are tried as one event."""


class TraceText:
    """One document. Iterate `batches`, then read `head`, `tail` and the counts."""

    def __init__(self, source: Source, decode: Decode) -> None:
        self.source = source
        self.decode = decode
        self.head: dict[str, Any] = {}
        self.tail: dict[str, Any] = {}
        self.truncated = False
        self.garbage = False
        self.bad_metadata = False
        self._is_array = False
        self.dropped = 0  # events that could not be decoded

    def batches(self) -> Iterator[list[AnyEvent]]:
        """Yield lists of events in file order. Raises InputError if this is no trace."""
        chunks = self.source.chunks()
        pending = self.read_head(chunks)
        ended = False
        for chunk in chunks:
            if ended:
                pending += chunk
                if len(pending) > HEAD_LIMIT:
                    break
                continue
            cut = _last_boundary(pending)
            if cut is not None:
                events, pending, ended = self._decode(pending, cut, last=False)
                yield events
            elif len(pending) > EVENT_LIMIT:  # no event ends here: what follows is no trace
                self.truncated = True
                return
            pending += chunk
        if not ended:
            events, pending, ended = self._decode(pending, len(pending), last=True)
            yield events
        self._read_tail(pending, ended=ended)

    def read_head(self, chunks: Iterator[bytes]) -> bytes:
        """Consume the text before the first event; return what follows.

        Raises InputError if this is no trace.
        """
        buffer = b""
        for chunk in chunks:
            buffer += chunk
            stripped = buffer.lstrip(b"\xef\xbb\xbf \t\r\n")
            if stripped[:1] == b"[":
                self._is_array = True
                return stripped[1:]
            found = ARRAY_START.search(buffer) if stripped[:1] == b"{" else None
            if found:
                before = buffer[: found.start()].removeprefix(BYTE_ORDER_MARK).rstrip()
                self.head = self._object(before.rstrip(b",") + b"}")
                return buffer[found.end() :]
            if stripped and (stripped[:1] != b"{" or len(buffer) > HEAD_LIMIT):
                break
        raise describe(self.source.path, buffer, torn=self.source.torn)

    def _decode(self, text: bytes, cut: int, *, last: bool) -> tuple[list[AnyEvent], bytes, bool]:
        """Decode text[:cut]; return the events, the text left over, and if the array ended."""
        if not last:
            try:
                return self.decode(b"[" + text[:cut] + b"]"), _after_comma(text, cut), False
            except UNDECODABLE:
                pass
        for end in _first_array_ends(text):
            try:
                return self.decode(b"[" + text[: end - 1] + b"]"), text[end:], True
            except UNDECODABLE:
                continue
        if text.lstrip()[:1] == b"]":
            return [], text.lstrip()[1:], True
        return self._one_by_one(text, last=last)

    def _one_by_one(self, text: bytes, *, last: bool) -> tuple[list[AnyEvent], bytes, bool]:
        starts = [0, *(found.end() for found in BOUNDARY.finditer(text))]
        ends = [*(found.start() + 1 for found in BOUNDARY.finditer(text)), len(text)]
        events: list[AnyEvent] = []
        at = 0
        while at < len(starts):
            joined = self._event_at(text, starts, ends, at)
            if joined is not None:
                events.append(joined[0])
                at = joined[1]
                continue
            closed = self._closing_event(text[starts[at] : ends[at]], events)
            if closed is not None:
                return events, text[starts[at] + closed :], True
            size = ends[at] - starts[at]
            closed = self._end_behind(text[starts[at] :], size) if last else None
            if closed is not None:
                self.dropped += 1
                return events, text[starts[at] + closed :], True
            if at == len(starts) - 1:
                return events, b"" if last else text[starts[at] :], False
            self.dropped += 1
            at += 1
        return events, b"", False

    def _event_at(
        self, text: bytes, starts: list[int], ends: list[int], at: int
    ) -> tuple[AnyEvent, int] | None:
        for stop in range(at, min(at + JOIN_LIMIT, len(starts))):
            events = self._lenient(text[starts[at] : ends[stop]])
            if events:
                return events[0], stop + 1
        return None

    def _closing_event(self, piece: bytes, events: list[AnyEvent]) -> int | None:
        """If `piece` holds the last event and the array's end, add it; return where that ends."""
        for end in _first_array_ends(piece):
            found = self._lenient(piece[: end - 1])
            if found:
                events.extend(found)
                return end
        return None

    def _end_behind(self, text: bytes, size: int) -> int | None:
        """Return where the array ends in text[:size], which begins with an event beyond reading."""
        for end in _first_array_ends(text[:size]):
            if self._is_array:
                if not text[end:].strip():
                    return end
            elif _object_end(b"{" + text[end:].lstrip(b", \t\r\n")) is not None:
                return end
        return None

    def _lenient(self, piece: bytes) -> list[AnyEvent]:
        piece = piece.strip().rstrip(b",")
        if not (piece.startswith(b"{") and piece.endswith(b"}")):
            return []
        try:
            return self.decode(b"[" + piece + b"]")
        except UNDECODABLE:
            pass
        try:  # the standard decoder takes NaN, control characters and wrong encodings
            loose = json.loads(piece.decode("utf-8", "replace"), strict=False)
            if any(key in loose and _is_nan(loose[key]) for key in TIME_KEYS):
                return []  # an event at no time is none
            return self.decode(msgspec.json.encode([_plain(loose)]))
        except (ValueError, msgspec.MsgspecError, RecursionError):
            return []

    def _read_tail(self, text: bytes, *, ended: bool) -> None:
        self.truncated = self.source.torn or not ended
        self.garbage = self.source.garbage
        if not ended:
            return
        rest = text.strip()
        if self._is_array:
            self.garbage = self.garbage or bool(rest)
            return
        end = _object_end(b"{" + rest.lstrip(b", \t\r\n"))
        if end is None:
            self.truncated = True
            return
        self.tail, followed = end
        self.garbage = self.garbage or followed

    def _object(self, text: bytes) -> dict[str, Any]:
        try:
            value = json.loads(text.decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError):
            self.bad_metadata = True
            return {}
        return value if isinstance(value, dict) else {}


def _plain(value: object) -> object:
    """Drop what JSON cannot say again: NaN and infinities become null-free absences."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not _is_nan(item)}
    if isinstance(value, list):
        return [_plain(item) for item in value if not _is_nan(item)]
    return value


def _is_nan(value: object) -> bool:
    return value is None or (isinstance(value, float) and value - value != 0.0)


def _object_end(text: bytes) -> tuple[dict[str, Any], bool] | None:
    """Decode the object at the start of `text`; return it and whether anything follows it."""
    try:
        decoded = text.decode("utf-8", "replace")
        value, end = json.JSONDecoder(strict=False).raw_decode(decoded)
    except (ValueError, RecursionError):
        return None
    return (value, bool(decoded[end:].strip())) if isinstance(value, dict) else None


def _last_boundary(text: bytes) -> int | None:
    """Return the index just behind the `}` of the last event that another event follows."""
    size = 1 << 16
    while True:
        begin = max(0, len(text) - size)
        found = None
        for found in BOUNDARY.finditer(text, begin):  # noqa: B007
            pass
        if found is not None:
            return found.start() + 1
        if begin == 0:
            return None
        size *= 8


def _after_comma(text: bytes, cut: int) -> bytes:
    return text[text.index(b",", cut) + 1 :]


def _first_array_ends(text: bytes) -> list[int]:
    """Return up to three places just behind a `}` and `]` that may close the array of events."""
    ends: list[int] = []
    for found in ARRAY_END.finditer(text):
        ends.append(found.end())
        if len(ends) == 3:
            break
    return ends

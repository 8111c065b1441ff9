"""Reads one Kineto (torch.profiler) file into a RankTrace; merges several files of one rank."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from perfkit.errors import InputError
from perfkit.trace import event_table, traits
from perfkit.trace.collectives import Groups, read_collectives
from perfkit.trace.event_table import Table
from perfkit.trace.kineto_columns import ColumnBuilder, Extras, NeedsExactTime
from perfkit.trace.kineto_quality import issues_of
from perfkit.trace.kineto_schema import Event, ExactEvent, Loose, TraceFacts
from perfkit.trace.kineto_text import AnyEvent, TraceText
from perfkit.trace.model import NONE, Issue, MemorySamples, RankTrace
from perfkit.trace.source import Source

PEEK_BYTES = 128 << 10


@dataclass(slots=True)
class _Decoder:
    """Decodes batches; turns to exact time stamps for good once a file needs them."""

    fast = msgspec.json.Decoder(list[Event], strict=False)
    exact = msgspec.json.Decoder(list[ExactEvent], strict=False)
    is_exact: bool = False
    batch: bytes = b""

    def __call__(self, batch: bytes) -> list[AnyEvent]:
        self.batch = batch
        decoder = self.exact if self.is_exact else self.fast
        return decoder.decode(batch)  # type: ignore[return-value]


def read_kineto(
    path: Path,
    *,
    keep_python: bool = False,
    pattern: re.Pattern[str] | None = None,
    processes: frozenset[Loose] | None = None,
) -> RankTrace:
    """Return what one trace file says; node and clock domain are left for the caller.

    `keep_python` keeps the rows of Python functions (with_stack), which can be 90 % of a file;
    `pattern` names the ranges that are steps; of a merged file only `processes` are read.
    Raises InputError if the file is no Kineto trace or holds no complete event.
    """
    decode = _Decoder()
    text = TraceText(Source(path), decode)
    builder = ColumnBuilder(keep_python=keep_python, processes=processes)
    for events in text.batches():
        _add(builder, decode, events)
    facts = TraceFacts().updated(text.head).updated(text.tail)
    if processes is not None:  # what a merged document says of a rank is one of many's
        facts = replace(facts, rank=NONE, world_size=0, host="")
    columns = builder.finish()
    if not len(columns.start_ns):
        raise InputError(
            f"{path}: {_why_empty(builder.extras)}", hint="give a torch.profiler trace"
        )
    table = event_table.build(columns, facts.base_ns or 0, builder.extras.thread_names, pattern)
    if not len(table.events):
        raise InputError(
            f"{path}: none of its events is of a kind that torch.profiler writes",
            hint="give a torch.profiler trace",
        )
    issues = issues_of(path, text, facts, builder.extras, table=table, pattern=pattern)
    return _trace(path, facts, builder.extras, table, issues)


def peek(path: Path) -> TraceFacts:
    """Return what the head of a trace says; PyTorch writes rank and world size there.

    Raises InputError if the file is no trace.
    """
    text = TraceText(Source(path), lambda batch: [])
    text.read_head(Source(path).chunks(PEEK_BYTES))
    return TraceFacts().updated(text.head)


def _add(builder: ColumnBuilder, decode: _Decoder, events: list[AnyEvent]) -> None:
    try:
        builder.add(events)
    except NeedsExactTime:
        decode.is_exact = True
        builder.add(_again(decode, events))


def _again(decode: _Decoder, events: list[AnyEvent]) -> list[AnyEvent]:
    """Decode the last batch once more, exactly; where it was read piecemeal, convert instead."""
    try:
        exact = decode(decode.batch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        exact = []
    if len(exact) == len(events):
        return exact
    return [_converted(event) for event in events]


def _converted(event: AnyEvent) -> AnyEvent:
    if isinstance(event, ExactEvent):
        return event
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "ts"}
    return ExactEvent(**fields, ts=msgspec.Raw(f"{event.ts:.3f}".encode()))


def _why_empty(extras: Extras) -> str:
    if extras.phases & {"B", "E"}:
        return "a Chrome trace of begin and end marks, not torch.profiler's"
    return "a trace without a single complete event"


def _trace(
    path: Path, facts: TraceFacts, extras: Extras, table: Table, issues: tuple[Issue, ...]
) -> RankTrace:
    groups = Groups(list(facts.groups))
    collectives = read_collectives(table.events, table.source_row, extras.collectives, groups)
    return RankTrace(
        rank=facts.rank,
        world_size=facts.world_size,
        events=table.events,
        collectives=collectives,
        groups=tuple(groups.known),
        steps=table.steps,
        training_threads=table.training_threads,
        device_kind=traits.device_kind(table.events, facts.devices, amd=facts.amd),
        device=traits.main_device(table.events),
        devices=facts.devices,
        node=facts.host,
        clock_domain="",
        has_shapes=bool((table.events.shape != NONE).any()),
        sources=(path,),
        recorders=traits.recorders(table.events),
        issues=issues,
        memory=_memory(extras, facts.base_ns or 0),
        profiled=(table.span_ns,) if table.span_ns else (),
    )


def _memory(extras: Extras, base_ns: int) -> MemorySamples | None:
    rows = np.concatenate(extras.memory) if extras.memory else np.zeros((0, 4), np.int64)
    if not len(rows):
        return None
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return MemorySamples(
        at_ns=rows[:, 0] + base_ns,
        device=rows[:, 1].astype(np.int16),
        allocated_bytes=rows[:, 2],
        reserved_bytes=rows[:, 3],
    )

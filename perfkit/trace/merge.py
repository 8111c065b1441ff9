"""Joins what several sources say about one rank: trace files, and spans from the step lines."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from perfkit.trace import windows
from perfkit.trace.kinds import Kind
from perfkit.trace.model import (
    I32,
    NONE,
    Collectives,
    DeviceCounter,
    Events,
    MemorySamples,
    OpShape,
    ProcessGroup,
    RankTrace,
    Spans,
    StepWindows,
)

_LINKS = ("launch", "op")
_TABLES = ("name", "shape")


def no_events() -> Events:
    """Return a table without rows."""
    types = {"kind": np.uint8, "device": np.int16, "backward": np.bool_}
    small = ("name", "launch", "op", "step", "shape")
    columns: dict[str, Any] = {
        item.name: np.zeros(0, types.get(item.name, np.int32 if item.name in small else np.int64))
        for item in fields(Events)
        if item.name not in ("names", "shapes")
    }
    return Events(**columns, names=(), shapes=())


def no_windows() -> StepWindows:
    """Return the windows of a rank without a trace."""
    return StepWindows(
        index=np.zeros(0, np.int32),
        start_ns=np.zeros(0, np.int64),
        end_ns=np.zeros(0, np.int64),
        complete=np.zeros(0, np.bool_),
        has_eval=np.zeros(0, np.bool_),
        source="perfkit",
    )


def merge_events(tables: Sequence[Events]) -> tuple[Events, list[I32]]:
    """Return one sorted table, and for each input the rows that its rows became."""
    names: dict[str, int] = {}
    shapes: dict[OpShape, int] = {}
    name_maps = [_renumber(names, table.names) for table in tables]
    shape_maps = [_renumber(shapes, table.shapes) for table in tables]
    start = np.concatenate([table.start_ns for table in tables])
    duration = np.concatenate([table.duration_ns for table in tables])
    order = np.lexsort((-duration, start))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    bounds = np.cumsum([0, *(len(table) for table in tables)])
    rows = [place[bounds[i] : bounds[i + 1]] for i in range(len(tables))]
    columns: dict[str, Any] = {}
    for item in fields(Events):
        if item.name in ("names", "shapes"):
            continue
        parts = [getattr(table, item.name) for table in tables]
        if item.name in _LINKS:
            parts = [_mapped(part, to) for part, to in zip(parts, rows, strict=True)]
        elif item.name in _TABLES:
            maps = name_maps if item.name == "name" else shape_maps
            parts = [_mapped(part, to) for part, to in zip(parts, maps, strict=True)]
        columns[item.name] = np.concatenate(parts)[order]
    return Events(**columns, names=tuple(names), shapes=tuple(shapes)), rows


def merge_traces(traces: Sequence[RankTrace]) -> RankTrace:
    """Return one trace of a rank from its windows' files (at least one)."""
    if len(traces) == 1:
        return traces[0]
    events, rows = merge_events([trace.events for trace in traces])
    groups: dict[str, ProcessGroup] = {}
    for group in (group for trace in traces for group in trace.groups):
        groups.setdefault(group.name, group)
    memory = [trace.memory for trace in traces if trace.memory is not None]
    first = traces[0]
    busy = next((trace for trace in traces if trace.device != NONE), first)
    return replace(
        first,
        rank=max(trace.rank for trace in traces),
        world_size=max(trace.world_size for trace in traces),
        events=events,
        collectives=_merge_collectives(traces, rows, list(groups)),
        groups=tuple(groups.values()),
        steps=_merge_windows([trace.steps for trace in traces]),
        training_threads=tuple(
            dict.fromkeys(t for trace in traces for t in trace.training_threads)
        ),
        device_kind=busy.device_kind,
        device=busy.device,
        devices=busy.devices,
        has_shapes=any(trace.has_shapes for trace in traces),
        sources=tuple(path for trace in traces for path in trace.sources),
        recorders=frozenset().union(*(trace.recorders for trace in traces)),
        issues=tuple(issue for trace in traces for issue in trace.issues),
        memory=_stacked(memory, MemorySamples) if memory else None,
        profiled=tuple(span for trace in traces for span in trace.profiled),
        counters=_merge_counters(traces),
    )


def _merge_counters(traces: Sequence[RankTrace]) -> tuple[DeviceCounter, ...]:
    """Return one entry a counter: the mean over the samples of all files."""
    found: dict[str, list[DeviceCounter]] = {}
    for counter in (counter for trace in traces for counter in trace.counters):
        found.setdefault(counter.name, []).append(counter)
    return tuple(
        DeviceCounter(
            name=name,
            mean=sum(c.mean * c.samples for c in own) / sum(c.samples for c in own),
            samples=sum(c.samples for c in own),
        )
        for name, own in found.items()
    )


def with_spans(trace: RankTrace, spans: Spans, kind: Kind, name: str) -> RankTrace:
    """Return the trace with spans as events of `kind` on the first training thread.

    Spans outside all windows are left out: the trace says nothing else about that time.
    """
    step = windows.step_of(trace.steps, spans.start_ns)
    inside = step != NONE
    if not inside.any() or not trace.training_threads:
        return trace
    count = int(inside.sum())
    nothing = np.full(count, NONE, np.int32)
    added = Events(
        start_ns=spans.start_ns[inside],
        duration_ns=np.maximum(spans.duration_ns[inside], 0),
        kind=np.full(count, kind, np.uint8),
        name=np.zeros(count, np.int32),
        thread=np.full(count, trace.training_threads[0], np.int64),
        device=nothing.astype(np.int16),
        correlation=nothing.astype(np.int64),
        launch=nothing,
        op=nothing,
        step=step[inside],
        shape=nothing,
        sequence=nothing.astype(np.int64),
        backward=np.zeros(count, np.bool_),
        size_bytes=nothing.astype(np.int64),
        names=(name,),
    )
    events, rows = merge_events([trace.events, added])
    event = rows[0][trace.collectives.event]
    return replace(trace, events=events, collectives=replace(trace.collectives, event=event))


def _renumber(known: dict[Any, int], values: Sequence[Any]) -> I32:
    return np.array([known.setdefault(value, len(known)) for value in values], np.int32)


def _mapped(indices: I32, to: I32) -> I32:
    if not len(to):
        return indices
    return np.where(indices == NONE, NONE, to[np.maximum(indices, 0)]).astype(np.int32)


def _merge_windows(parts: Sequence[StepWindows]) -> StepWindows:
    """Return all windows in order of start; "whole" windows of several files stay apart."""
    merged: StepWindows = _stacked(parts, StepWindows, skip=("source",), source=parts[0].source)
    order = np.argsort(merged.start_ns, kind="stable")
    index = merged.index
    if merged.source == "whole":
        index = np.arange(len(order), dtype=np.int32)
    return replace(
        merged,
        index=index[order],
        start_ns=merged.start_ns[order],
        end_ns=merged.end_ns[order],
        complete=merged.complete[order],
        has_eval=merged.has_eval[order],
    )


def _merge_collectives(
    traces: Sequence[RankTrace], rows: Sequence[I32], groups: list[str]
) -> Collectives:
    parts = []
    for trace, to in zip(traces, rows, strict=True):
        numbers = np.array([groups.index(group.name) for group in trace.groups], np.int32)
        facts = trace.collectives
        parts.append(replace(facts, event=to[facts.event], group=_mapped(facts.group, numbers)))
    merged = _stacked(parts, Collectives)
    order = np.argsort(merged.event, kind="stable")
    columns: dict[str, Any] = {}
    for item in fields(Collectives):
        column = getattr(merged, item.name)
        if isinstance(column, tuple):
            columns[item.name] = tuple(column[i] for i in order.tolist())
        else:
            columns[item.name] = column[order]
    return Collectives(**columns)


def _stacked(
    parts: Sequence[Any], kind: type[Any], skip: tuple[str, ...] = (), **extra: Any
) -> Any:
    """Return one dataclass of `kind` whose columns are those of `parts`, one after the other."""
    columns: dict[str, Any] = {}
    for item in fields(kind):
        if item.name in skip:
            continue
        values = [getattr(part, item.name) for part in parts]
        if isinstance(values[0], tuple):
            columns[item.name] = tuple(entry for value in values for entry in value)
        else:
            columns[item.name] = np.concatenate(values)
    return kind(**columns, **extra)

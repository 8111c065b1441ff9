"""Turns the columns of one file into the event table: kinds, times, order, links."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfkit.trace import linking, windows
from perfkit.trace.columns import Columns
from perfkit.trace.event_names import IGNORED, SPAN, kind_of
from perfkit.trace.kinds import FIRST_DEVICE_KIND, LAST_WORK_KIND, Kind
from perfkit.trace.model import I8, I32, I64, NONE, Bool, Events, StepWindows
from perfkit.trace.step_ranges import Ranges, find_steps

DROPPED = 255  # stands for "no kind" while kinds are being assigned
FAR_NS = 7 * 86_400 * 1_000_000_000
"""No capture lasts a week: what lies or lasts longer has a broken time stamp."""

RUNTIME_KINDS = (Kind.LAUNCH, Kind.SYNC, Kind.ALLOC, Kind.RUNTIME)


@dataclass(slots=True)
class Counts:
    """What was dropped, clamped or guessed on the way into the table."""

    unknown_category: int = 0
    unknown_categories: tuple[str, ...] = ()
    absurd_time: int = 0
    negative_duration: int = 0
    device_work: int = 0
    without_launch: int = 0
    before_launch: int = 0
    by_containment: bool = False  # External id is no link in this file
    processes: int = 0  # distinct processes that ran operators


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The kept rows in their final order; `source` (n,) are rows of `columns`."""

    columns: Columns
    source: I64
    start: I64
    end: I64
    kind: I8
    name: I32
    thread: I64
    on_device: Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The event table of one file and what was found while making it."""

    events: Events
    source_row: I64  # row of Columns for each event
    steps: StepWindows
    training_threads: tuple[int, ...]
    span_ns: tuple[int, int] | None  # when the profiler ran, where the file says so
    counts: Counts


def build(
    columns: Columns,
    base_ns: int,
    thread_names: Mapping[int, str],
    pattern: re.Pattern[str] | None = None,
) -> Table:
    """Return the table of one file.

    `base_ns` is added to every time; `pattern` names the ranges that are steps (see step_ranges).
    """
    counts = Counts()
    rows = _sorted(columns, base_ns, counts)
    ranges = Ranges(
        start_ns=rows.start,
        end_ns=rows.end,
        kind=rows.kind,
        name=rows.name,
        thread=rows.thread,
        names=columns.names,
    )
    steps, stepping = find_steps(ranges, pattern)
    launch, op = _links(rows, counts)
    counts.processes = len(np.unique(columns.process[rows.source][rows.kind == Kind.OP]))
    autograd = [tid for tid, text in thread_names.items() if "pt_autograd" in text]
    return Table(
        events=_events(rows, steps, launch, op),
        source_row=rows.source,
        steps=_with_unfinished(steps, rows),
        training_threads=windows.training_threads(
            rows.kind,
            rows.name,
            rows.thread,
            columns.names,
            stepping=stepping,
            autograd_named=autograd,
        ),
        span_ns=_span(columns, base_ns),
        counts=counts,
    )


def _sorted(columns: Columns, base_ns: int, counts: Counts) -> _Rows:
    """Keep what belongs in the table, in order of start, longer first."""
    kind = _kinds(columns, counts)
    keep = _usable(columns, kind, counts)
    start = columns.start_ns[keep] + base_ns
    duration = np.maximum(columns.duration_ns[keep], 0)
    order = np.lexsort((-duration, start))
    source = keep[order]
    kind = kind[source]
    on_device = kind >= FIRST_DEVICE_KIND
    stream = columns.stream[source]
    thread = columns.thread[source]
    return _Rows(
        columns=columns,
        source=source,
        start=start[order],
        end=start[order] + duration[order],
        kind=kind,
        name=columns.name[source],
        thread=np.where(on_device & (stream != NONE), stream, thread),
        on_device=on_device,
    )


def _events(rows: _Rows, steps: StepWindows, launch: I32, op: I32) -> Events:
    columns, source = rows.columns, rows.source
    device = columns.device[source].astype(np.int64)
    process = np.maximum(columns.process[source], NONE)
    device = np.where(device == NONE, process, device)
    return Events(
        start_ns=rows.start,
        duration_ns=rows.end - rows.start,
        kind=rows.kind,
        name=rows.name,
        thread=rows.thread,
        device=np.where(rows.on_device, device, NONE).astype(np.int16),
        correlation=columns.correlation[source],
        launch=launch,
        op=op,
        step=_steps(steps, rows, launch, op),
        shape=columns.shape[source],
        sequence=columns.sequence[source],
        backward=_backward(rows, op),
        size_bytes=columns.size_bytes[source],
        names=columns.names,
        shapes=columns.shapes,
    )


def _kinds(columns: Columns, counts: Counts) -> I8:
    """Return each row's kind, DROPPED for what has no place in the table."""
    pairs = columns.category.astype(np.int64) * max(len(columns.names), 1) + columns.name
    distinct, inverse, numbers = np.unique(pairs, return_inverse=True, return_counts=True)
    table = np.full(len(distinct), DROPPED, np.uint8)
    unknown: dict[str, int] = {}
    for place, (pair, number) in enumerate(zip(distinct.tolist(), numbers.tolist(), strict=True)):
        category, name = divmod(pair, max(len(columns.names), 1))
        text = columns.categories[category]
        kind = kind_of(text, columns.names[name])
        if kind is not None:
            table[place] = kind
        elif text.lower() not in IGNORED:
            unknown[text] = unknown.get(text, 0) + number
    counts.unknown_category = sum(unknown.values())
    counts.unknown_categories = tuple(sorted(unknown))
    return table[inverse]


def _usable(columns: Columns, kind: I8, counts: Counts) -> I64:
    """Return the rows that belong in the table, and count the others."""
    known = kind != DROPPED
    counts.negative_duration = int((columns.duration_ns[known] < 0).sum())
    sane = columns.duration_ns < FAR_NS
    if known.any():
        middle = int(np.median(columns.start_ns[known]))
        sane &= np.abs(columns.start_ns - middle) < FAR_NS
    counts.absurd_time = int((known & ~sane).sum())
    return np.flatnonzero(known & sane)


def _span(columns: Columns, base_ns: int) -> tuple[int, int] | None:
    spans = [i for i, text in enumerate(columns.categories) if text.lower() == SPAN]
    rows = np.flatnonzero(np.isin(columns.category, spans))
    if not len(rows):
        return None
    begin = int(columns.start_ns[rows].min()) + base_ns
    end = int((columns.start_ns[rows] + columns.duration_ns[rows]).max()) + base_ns
    return begin, end


def _links(rows: _Rows, counts: Counts) -> tuple[I32, I32]:
    """Return the launch and the operator of each row, as rows of the sorted table."""
    kind, start = rows.kind, rows.start
    correlation = rows.columns.correlation[rows.source]
    external = rows.columns.external[rows.source]
    work = np.flatnonzero((kind >= FIRST_DEVICE_KIND) & (kind <= LAST_WORK_KIND))
    calls = np.flatnonzero(np.isin(kind, RUNTIME_KINDS))
    ops = np.flatnonzero((kind == Kind.OP) | (kind == Kind.COMM_CALL))
    launch = np.full(len(kind), NONE, np.int32)
    launch[work] = linking.match_keys(correlation[work], correlation[calls], calls)
    op = np.full(len(kind), NONE, np.int32)
    counts.by_containment = linking.external_ids_repeat_correlations(
        external[work], correlation[work]
    )
    if not counts.by_containment:
        for some in (calls, work):
            wanted = np.where(external[some] == correlation[some], NONE, external[some])
            op[some] = linking.match_keys(wanted, external[ops], ops)
    _contain(rows, op, calls[op[calls] == NONE], ops)
    through = work[launch[work] != NONE]
    by_launch = op[launch[through]]
    op[through] = np.where(by_launch == NONE, op[through], by_launch)
    counts.device_work = len(work)
    counts.without_launch = len(work) - len(through)
    counts.before_launch = int((start[through] < start[launch[through]]).sum())
    return launch, op


def _contain(rows: _Rows, op: I32, calls: I64, ops: I64) -> None:
    """Fill `op` of `calls` with the innermost operator on the same thread at that time."""
    for group in linking.by_thread(rows.thread[calls]):
        some = calls[group]
        around = ops[rows.thread[ops] == rows.thread[some[0]]]
        op[some] = linking.innermost(rows.start[around], rows.end[around], around, rows.start[some])


def _steps(steps: StepWindows, rows: _Rows, launch: I32, op: I32) -> I32:
    """Return each row's step: of host rows by their start, of device rows by launch, then op."""
    step = windows.step_of(steps, rows.start)
    cause = np.where(launch == NONE, op, launch)
    by_cause = np.where(cause == NONE, NONE, step[np.maximum(cause, 0)])
    return np.where(rows.on_device, by_cause, step).astype(np.int32)


def _backward(rows: _Rows, op: I32) -> Bool:
    """Return whether each row ran in a backward pass; device work and calls follow their op."""
    backward = windows.backward_rows(
        rows.start, rows.end, rows.kind, rows.name, rows.thread, rows.columns.names
    )
    backward |= rows.columns.forward[rows.source] & (rows.kind == Kind.OP)
    linked = op != NONE
    backward[linked] |= backward[op[linked]]
    return backward


def _with_unfinished(steps: StepWindows, rows: _Rows) -> StepWindows:
    """Mark the steps whose range the profiler closed by force as incomplete."""
    cut = rows.start[~rows.columns.finished[rows.source]]
    if steps.source != "ProfilerStep" or not len(cut):
        return steps
    return replace(steps, complete=steps.complete & ~np.isin(steps.start_ns, cut))

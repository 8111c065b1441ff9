"""Which named ranges of a capture are its steps, and the windows they give.

The first of these that a capture has: the ranges that the user's pattern names; PyTorch's
ProfilerStep#N; ranges called "step 12", "iteration 12" and the like; the optimizer's steps. Else
the whole capture is one window.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.trace.event_names import STEP
from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.model import I8, I32, I64, NONE, Bool, StepWindows

MAX_DIGITS = 9
"""Longer numbers do not fit a step's 32 bits: such a name is no step's."""

_NUMBERED = re.compile(
    r"^(?:(?:global|train|training|optim)[ _-]?)?(?:step|iter|iteration|batch)[ _#:=-]*(\d+)$",
    re.IGNORECASE,
)
_OPTIMIZER = re.compile(r"^Optimizer\.step#")
_RANGES = (Kind.ANNOTATION, Kind.OP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The rows of an event table, sorted by start, longer first; columns have shape (n,)."""

    start_ns: I64
    end_ns: I64
    kind: I8
    name: I32  # index into `names`
    thread: I64
    names: Sequence[str]


def find_steps(rows: Ranges, pattern: re.Pattern[str] | None = None) -> tuple[StepWindows, int]:
    """Return the windows of the steps, and the thread that holds them (NONE: one whole window).

    `pattern` names the step ranges; its first group, if it matches digits, is the step's number.
    Without any step the source is "whole" and the window spans all host events (all events, if none
    is a host's).
    """
    ways = ((pattern, "nvtx", 1), (STEP, "ProfilerStep", 1), (_NUMBERED, "nvtx", 2))
    for way, source, least in ways:
        found = _named(rows, way, source, least) if way is not None else None
        if found is not None:
            return found
    return _by_optimizer(rows) or (_whole(rows), NONE)


def _named(
    rows: Ranges, way: re.Pattern[str], source: str, least: int
) -> tuple[StepWindows, int] | None:
    number = _numbers(rows.names, way)
    marked = np.flatnonzero((number[rows.name] != NONE) & np.isin(rows.kind, _RANGES))
    if len(marked) < least:
        return None
    marked, stepping = _on_one_thread(rows, marked)
    index = number[rows.name[marked]]
    if source == "nvtx" and (np.diff(index) != 1).any():
        index = np.arange(len(marked))  # the names do not count steps
    return _windows(index, rows.start_ns[marked], rows.end_ns[marked], source), stepping


def _numbers(names: Sequence[str], pattern: re.Pattern[str]) -> I64:
    """Return the step's number for each name, 0 for a step without one, NONE for no step."""
    numbers = np.full(len(names) + 1, NONE, np.int64)
    for index, text in enumerate(names):
        found = pattern.search(text)
        if found is None:
            continue
        digits = (found[1] or "") if pattern.groups else ""
        if not (digits.isascii() and digits.isdigit()):
            numbers[index] = 0
        elif len(digits) <= MAX_DIGITS:
            numbers[index] = int(digits)
    return numbers


def _on_one_thread(rows: Ranges, marked: I64) -> tuple[I64, int]:
    """Return the marked rows of the thread with most, in order and without overlap."""
    threads, counts = np.unique(rows.thread[marked], return_counts=True)
    stepping = int(threads[np.argmax(counts)])
    mine = marked[rows.thread[marked] == stepping]
    reach = np.maximum.accumulate(rows.end_ns[mine])
    apart = np.concatenate(([True], rows.start_ns[mine][1:] >= reach[:-1]))
    return mine[apart], stepping


def _by_optimizer(rows: Ranges) -> tuple[StepWindows, int] | None:
    """Return a window from the end of each optimizer step to the end of the next.

    The first optimizer seen is the anchor. What lies before its first step and after its last is
    part of steps that the capture did not see whole.
    """
    is_optimizer = np.array([bool(_OPTIMIZER.search(text)) for text in rows.names] + [False])
    marked = np.flatnonzero(is_optimizer[rows.name] & np.isin(rows.kind, _RANGES))
    if not len(marked):
        return None
    marked, stepping = _on_one_thread(rows, marked[rows.name[marked] == rows.name[marked[0]]])
    if len(marked) < 2:
        return None
    host = rows.kind < FIRST_DEVICE_KIND
    first, last = rows.start_ns[host].min(), rows.end_ns[host].max()
    edges = np.concatenate(([first], rows.end_ns[marked], [last]))
    steps = _windows(np.arange(len(edges) - 1), edges[:-1], edges[1:], "optimizer")
    steps.complete[[0, -1]] = False
    return steps, stepping


def _whole(rows: Ranges) -> StepWindows:
    if not len(rows.start_ns):
        return _windows(np.zeros(0, np.int64), rows.start_ns, rows.end_ns, "whole")
    host = (rows.kind < FIRST_DEVICE_KIND) & ~np.isin(rows.kind, (Kind.OVERHEAD, Kind.OS_CALL))
    some = host if host.any() else np.ones(len(host), np.bool_)
    first = rows.start_ns[some].min(keepdims=True)
    last = rows.end_ns[some].max(keepdims=True)
    return _windows(np.zeros(1, np.int64), first, last, "whole")


def _windows(index: I64, start_ns: I64, end_ns: I64, source: str) -> StepWindows:
    complete: Bool = np.ones(len(index), np.bool_)
    return StepWindows(
        index=index.astype(np.int32),
        start_ns=start_ns,
        end_ns=end_ns,
        complete=complete,
        has_eval=np.zeros(len(index), np.bool_),
        source=source,
    )

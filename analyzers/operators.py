"""Where time goes by name: kernels, copies and collectives, or operators by self time.

Self time is an operator's time less that of the operators within it, so that rows never overlap.
Of collectives of one name that are under way at once (gloo runs two at a time) each nanosecond
counts once: else one name could take longer than the step.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.nesting import self_times
from perfkit.analyzers.result import OperatorRow
from perfkit.analyzers.windows import Windows
from perfkit.trace.intervals import disjoint
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, Bool, RankTrace

MOST_NAMES_PER_RANK = 300
MOST_ROWS = 40
LONGEST_SHAPE = 80

_DEVICE_KINDS = {
    Kind.KERNEL: "kernel",
    Kind.MEMSET: "kernel",
    Kind.COMM_KERNEL: "collective",
    Kind.MEMCPY_H2D: "copy",
    Kind.MEMCPY_D2H: "copy",
    Kind.MEMCPY_D2D: "copy",
    Kind.MEMCPY_P2P: "copy",
}
_HOST_KINDS = {Kind.OP: "operator", Kind.COMM_CALL: "operator", Kind.COMM_HOST: "collective"}


@dataclass(frozen=True, slots=True)
class NamedTime:
    """Calls and total time of one name on one rank over its steps."""

    name: str
    kind: str
    count: int
    ns: int
    shapes: str


def rank_operators(trace: RankTrace, windows: Windows) -> tuple[NamedTime, ...]:
    """Sum the time of one rank's steps by name, the largest first."""
    events = trace.events
    kinds = _DEVICE_KINDS if windows.on_device else _HOST_KINDS
    wanted = np.isin(events.kind, list(kinds)) & np.isin(events.step, windows.step)
    own = events.duration_ns.copy()
    if not windows.on_device:
        wanted &= (events.kind == Kind.COMM_HOST) | np.isin(events.thread, trace.training_threads)
        _replace_by_self_time(trace, own)
    rows = np.flatnonzero(wanted)
    _count_once(trace, rows, own)
    keys = events.name[rows].astype(np.int64) * 64 + events.kind[rows]
    unique, place, count = np.unique(keys, return_inverse=True, return_counts=True)
    total = np.zeros(len(unique), dtype=np.int64)
    np.add.at(total, place, own[rows])
    best = np.argsort(-total, kind="stable")[:MOST_NAMES_PER_RANK]
    return tuple(
        NamedTime(
            name=events.names[unique[i] // 64],
            kind=kinds[Kind(int(unique[i] % 64))],
            count=int(count[i]),
            ns=int(total[i]),
            shapes=_commonest_shape(trace, rows[place == i]),
        )
        for i in best.tolist()
    )


def merge_operators(
    per_rank: Sequence[tuple[NamedTime, ...]], steps: Sequence[int], window_ns: Sequence[int]
) -> tuple[OperatorRow, ...]:
    """Join all ranks: means per step and rank, and the share of all windows.

    `steps` and `window_ns` give each rank's number of steps and total length of windows.
    """
    ns: dict[tuple[str, str], float] = defaultdict(float)
    per_step: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    shapes: dict[tuple[str, str], str] = {}
    for rows, n in zip(per_rank, steps, strict=True):
        for row in rows if n else ():
            key = (row.name, row.kind)
            ns[key] += row.ns
            per_step[key][0] += row.count / n / len(per_rank)
            per_step[key][1] += row.ns / n / len(per_rank)
            shapes.setdefault(key, row.shapes)
    whole = sum(window_ns)
    order = sorted(ns, key=lambda key: (-ns[key], key))[:MOST_ROWS]
    return tuple(
        OperatorRow(
            name=name,
            kind=kind,
            count=per_step[name, kind][0],
            ms=per_step[name, kind][1] / 1e6,
            share=ns[name, kind] / whole if whole else 0.0,
            shapes=shapes[name, kind],
        )
        for name, kind in order
    )


def _replace_by_self_time(trace: RankTrace, own: I64) -> None:
    events = trace.events
    for thread in trace.training_threads:
        rows = np.flatnonzero(_operators_on(trace, thread))
        own[rows] = self_times(events.start_ns[rows], events.end_ns[rows])


def _count_once(trace: RankTrace, rows: I64, own: I64) -> None:
    """Leave to each collective what no earlier one of the same name is under way in."""
    events = trace.events
    transfers = rows[np.isin(events.kind[rows], (Kind.COMM_HOST, Kind.COMM_KERNEL))]
    for name in np.unique(events.name[transfers]).tolist():
        same = transfers[events.name[transfers] == name]
        same = same[np.argsort(events.start_ns[same], kind="stable")]
        spans = disjoint(events.start_ns[same], events.end_ns[same])
        own[same] = spans[:, 1] - spans[:, 0]


def _operators_on(trace: RankTrace, thread: int) -> Bool:
    kinds = np.isin(trace.events.kind, (Kind.OP, Kind.COMM_CALL))
    return np.asarray(kinds & (trace.events.thread == thread))


def _commonest_shape(trace: RankTrace, rows: I64) -> str:
    events = trace.events
    found = events.shape[rows]
    issuing = events.op[rows]
    found = np.where((found == NONE) & (issuing != NONE), events.shape[issuing], found)
    found = found[found != NONE]
    if not len(found):
        return ""
    values, counts = np.unique(found, return_counts=True)
    dims = events.shapes[values[int(np.argmax(counts))]].dims
    text = " ".join(_show(d) for d in dims if d not in ((), None))
    return text if len(text) <= LONGEST_SHAPE else text[: LONGEST_SHAPE - 3] + "..."


def _show(dims: object) -> str:
    if isinstance(dims, tuple | list):
        return "[" + ",".join(_show(d) for d in dims) + "]"
    return str(dims)

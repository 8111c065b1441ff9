"""What each piece of device work shares in the cost of the operator that launched it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.roofline.calls import COMPUTE_KINDS, Costs
from perfkit.roofline.cost import OpCost, Unit
from perfkit.roofline.nesting import nest
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, Events, RankTrace

WIDE = ("fp32", "tf32")
ELEMENTWISE = "elementwise"
_F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KernelWork:
    """Compulsory bytes behind each event, shape (n,); NaN where none are known.

    An operator's bytes are shared among its kernels by their durations.
    """

    matrix: _F64  # read and written by matrix operators (product, convolution, ...) on 32 bits
    simple: _F64  # read and written by operators that work element by element
    made: _F64  # written by those


def kernel_work(trace: RankTrace) -> KernelWork:
    """Return the bytes behind the device work of a trace; none where no shapes are recorded."""
    events = trace.events
    columns = [np.full(len(events), np.nan) for _ in range(3)]
    work = np.flatnonzero(np.isin(events.kind, COMPUTE_KINDS) & (events.op >= 0))
    if len(work) and bool((events.shape >= 0).any()):
        _fill(columns, trace, work)
    return KernelWork(*columns)


def _fill(columns: list[_F64], trace: RankTrace, work: I64) -> None:
    events, costs = trace.events, Costs(trace)
    owner = nest(events, _known(events, costs)).owner[events.op[work]]
    work, owner = work[owner >= 0], owner[owner >= 0]
    rows, place = np.unique(owner, return_inverse=True)
    spent = np.bincount(place, weights=events.duration_ns[work], minlength=len(rows))
    found = np.full((len(rows), 3), np.nan)
    seen: dict[tuple[int, int], tuple[float, float, float]] = {}
    names, shapes = events.name[rows].tolist(), events.shape[rows].tolist()
    for i, row in enumerate(rows.tolist()):
        key = names[i], shapes[i]
        if key not in seen:
            seen[key] = _bytes(costs.cost(row, None))
        found[i] = seen[key]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = events.duration_ns[work] / spent[place]
    for column, values in zip(columns, found.T, strict=True):
        column[work] = values[place] * part


def _bytes(cost: OpCost | None) -> tuple[float, float, float]:
    matrix = simple = made = float("nan")
    if cost is not None and cost.unit is Unit.TENSOR and cost.precision in WIDE:
        matrix = cost.bytes
    if cost is not None and cost.family == ELEMENTWISE and cost.bytes:
        simple, made = cost.bytes, cost.written_bytes
    return matrix, simple, made


def _known(events: Events, costs: Costs) -> Callable[[int], bool]:
    """Return whether a row's cost is known, looked up once for each operator and inputs."""
    rows = np.flatnonzero((events.kind == Kind.OP) & (events.shape != NONE))
    keys = events.name[rows].astype(np.int64) * (len(events.shapes) + 1) + events.shape[rows]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    known = np.zeros(len(events), np.bool_)
    known[rows] = np.array([costs.is_known(r) for r in rows[first].tolist()], np.bool_)[place]
    listed: list[bool] = known.tolist()
    return listed.__getitem__

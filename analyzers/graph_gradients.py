"""When each gradient of a backward pass was ready, and how large it is.

The profiler records an AccumulateGrad operator per parameter, with the gradient's shape; DDP's hook
runs behind it. Source: torch/csrc/autograd/functions/accumulate_grad.cpp.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from perfkit.roofline.dtypes import element_type
from perfkit.trace.model import I64, Events, OpShape

_ACCUMULATE = "torch::autograd::AccumulateGrad"


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients in the order in which they were ready; shape (n,)."""

    ready_ns: I64
    size_bytes: I64


def gradients(events: Events, threads: tuple[int, ...], begin: int, end: int) -> Gradients:
    """Return the gradients that were ready in [begin, end); none where a size is not recorded."""
    if _ACCUMULATE not in events.names:
        return _none()
    rows = np.flatnonzero(events.name == events.names.index(_ACCUMULATE))
    ready = events.end_ns[rows]
    kept = (ready >= begin) & (ready < end) & np.isin(events.thread[rows], threads)
    rows, ready = rows[kept], ready[kept]
    sizes = [_bytes(events.shapes[s]) if s >= 0 else None for s in events.shape[rows].tolist()]
    if None in sizes:
        return _none()
    order = np.argsort(ready, kind="stable")
    return Gradients(ready[order], np.array(sizes, np.int64)[order])


def _none() -> Gradients:
    return Gradients(np.empty(0, np.int64), np.empty(0, np.int64))


def _bytes(shape: OpShape) -> int | None:
    dims = shape.dims[0] if shape.dims else None
    element = element_type(shape.dtypes[0]) if shape.dtypes else None
    if element is None or not isinstance(dims, tuple) or not all(isinstance(d, int) for d in dims):
        return None
    return prod(dims) * element.item_bytes

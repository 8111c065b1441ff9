"""What each piece of device work shares in the cost of the matrix operator that launched it."""

import numpy as np
from numpy.typing import NDArray

from perfkit.roofline.calls import COMPUTE_KINDS, Costs
from perfkit.roofline.cost import Unit
from perfkit.roofline.nesting import nest
from perfkit.trace.model import NONE, RankTrace

WIDE = ("fp32", "tf32")


def wide_matrix_bytes(trace: RankTrace) -> NDArray[np.float64]:
    """Return the compulsory bytes behind each event, shape (n,); NaN where none are known.

    Only of work that a matrix operator (product, convolution, attention) on 32-bit numbers
    launched; the operator's bytes are shared among its kernels by their durations.
    """
    events = trace.events
    found = np.full(len(events), np.nan)
    costs = Costs(trace)
    nesting = nest(events, costs.is_known)
    work = np.flatnonzero(np.isin(events.kind, COMPUTE_KINDS) & (events.op >= 0))
    owner = nesting.owner[events.op[work]]
    work, owner = work[owner >= 0], owner[owner >= 0]
    rows, place = np.unique(owner, return_inverse=True)
    spent = np.bincount(place, weights=events.duration_ns[work], minlength=len(rows))
    moved = np.full(len(rows), np.nan)
    for i, row in enumerate(rows.tolist()):
        known = costs.cost(row, None) if row != NONE else None
        if known is not None and known.unit is Unit.TENSOR and known.precision in WIDE:
            moved[i] = known.bytes
    with np.errstate(divide="ignore", invalid="ignore"):
        found[work] = moved[place] * events.duration_ns[work] / spent[place]
    return found

"""Which recorded call contains which, and how much time each spent outside its children."""

import numpy as np

from perfkit.trace.model import I64, NONE


def parents(start_ns: I64, end_ns: I64) -> I64:
    """Return for each span of one thread the row of the innermost span that contains it, or NONE.

    Spans come sorted by start, longer first at ties. A span that ends after its parent (clock
    rounding, annotations that overlap) still counts as its child.
    """
    found = np.full(len(start_ns), NONE, dtype=np.int64)
    depth = _depths(start_ns, end_ns)
    for level in range(1, int(depth.max(initial=0)) + 1):
        inner, outer = np.flatnonzero(depth == level), np.flatnonzero(depth == level - 1)
        found[inner] = outer[np.searchsorted(outer, inner) - 1]
    return found


def self_times(start_ns: I64, end_ns: I64) -> I64:
    """Return for each span of one thread its length less that of its direct children."""
    own = end_ns - start_ns
    parent = parents(start_ns, end_ns)
    child = parent != NONE
    inner = np.minimum(end_ns[child], end_ns[parent[child]]) - start_ns[child]
    np.subtract.at(own, parent[child], inner)
    return np.asarray(np.maximum(own, 0))


def _depths(start_ns: I64, end_ns: I64) -> I64:
    """Return how many earlier spans are still open when each one starts."""
    opened = np.arange(len(start_ns))
    closed = np.searchsorted(np.sort(end_ns), start_ns, side="right")
    # Empty spans that end where this one starts may stand behind it in the table.
    return np.asarray(np.maximum(opened - np.minimum(closed, opened), 0), dtype=np.int64)

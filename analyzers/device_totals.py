"""Whole-trace totals of a device as HTA and TraceLens define them, for comparison with them.

Both measure from the first device event to the last, so host time before and after is invisible to
them; neither splits waits from transfers (models.md 1.1). Our own budget does not rest on these.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.windows import is_device_work
from perfkit.trace.intervals import intersect, join, subtract, total_ns, union
from perfkit.trace.kinds import Kind
from perfkit.trace.model import Events

_COPIES = (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H, Kind.MEMCPY_D2D, Kind.MEMCPY_P2P)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTotals:
    """Nanoseconds over one trace; compute + exposed_comm + exposed_copy + idle = span."""

    span_ns: int  # first start to last end of device work; HTA's kernel_time
    idle_ns: int
    compute_ns: int
    non_compute_ns: int  # HTA: span less compute and idle
    comm_ns: int
    exposed_comm_ns: int  # TraceLens: communication that no compute hides
    exposed_copy_ns: int  # TraceLens: copies that neither compute nor communication hides
    overlap: float | None  # HTA: share of communication time under compute


def device_totals(events: Events) -> DeviceTotals | None:
    """Sum one trace's device work; None if it has none."""
    work = is_device_work(events)
    if not work.any():
        return None
    end = events.start_ns + events.duration_ns

    def of(*kinds: Kind) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        rows = np.isin(events.kind, kinds)
        return union(events.start_ns[rows], end[rows])

    compute, comm = of(Kind.KERNEL, Kind.MEMSET), of(Kind.COMM_KERNEL)
    copies = of(*_COPIES)
    span = int(end[work].max() - events.start_ns[work].min())
    idle = span - total_ns(join(compute, comm, copies))
    comm_ns = total_ns(comm)
    return DeviceTotals(
        span_ns=span,
        idle_ns=idle,
        compute_ns=total_ns(compute),
        non_compute_ns=span - idle - total_ns(compute),
        comm_ns=comm_ns,
        exposed_comm_ns=total_ns(subtract(comm, compute)),
        exposed_copy_ns=total_ns(subtract(subtract(copies, compute), comm)),
        overlap=total_ns(intersect(comm, compute)) / comm_ns if comm_ns else None,
    )

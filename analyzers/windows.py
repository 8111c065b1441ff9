"""Which span of time is a step of a rank.

A run on the host alone has host windows: from the start of a step to the start of the next one. A
run on a device has device windows D_k = [d_k, d_k+1), where d_k is the start of the first device
activity that step k launched: the device runs behind the host, and a window cut by the host's clock
would count work of one step in another (models.md 1.2). Windows tile the time axis, so their sum is
the elapsed time and nothing is counted twice or lost.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.trace.intervals import Intervals
from perfkit.trace.kinds import FIRST_DEVICE_KIND, LAST_WORK_KIND
from perfkit.trace.model import I64, NONE, Bool, Events, RankTrace

NON_STATIONARY_TOLERANCE = 0.02
"""Relative difference of the mean device window and the mean host window (models.md 1.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The steps of one rank that can be accounted for, in order; shape (n,)."""

    step: I64
    start_ns: I64
    end_ns: I64
    has_eval: Bool
    on_device: bool
    host_mean_ns: float
    straddle: float  # share of device work time that lies outside the window of its own step

    @property
    def intervals(self) -> Intervals:
        """The windows as rows of (start, end); they may touch."""
        return np.column_stack((self.start_ns, self.end_ns))

    def only(self, steps: I64) -> "Windows":
        """Keep the windows of these steps."""
        keep = np.isin(self.step, steps)
        return Windows(
            step=self.step[keep],
            start_ns=self.start_ns[keep],
            end_ns=self.end_ns[keep],
            has_eval=self.has_eval[keep],
            on_device=self.on_device,
            host_mean_ns=self.host_mean_ns,
            straddle=self.straddle,
        )

    @property
    def stationary(self) -> bool:
        """Whether device windows last as long as host windows, on average."""
        if not self.on_device or len(self.step) < 3:
            return True
        mean = float((self.end_ns - self.start_ns).mean())
        return abs(mean - self.host_mean_ns) < NON_STATIONARY_TOLERANCE * self.host_mean_ns


def is_device_work(events: Events) -> Bool:
    """Mark the rows that occupy a device."""
    return (events.kind >= FIRST_DEVICE_KIND) & (events.kind <= LAST_WORK_KIND)


def step_windows(trace: RankTrace) -> Windows:
    """Cut a rank's trace into the windows of its steps."""
    work = is_device_work(trace.events)
    if work.any():
        return _device_windows(trace, work)
    return _host_windows(trace)


def _host_windows(trace: RankTrace) -> Windows:
    steps = trace.steps
    index = steps.index.astype(np.int64)
    start, end = _tiled(index, steps.start_ns, steps.end_ns)
    keep = steps.complete & (end > start)
    return Windows(
        step=index[keep],
        start_ns=start[keep],
        end_ns=end[keep],
        has_eval=steps.has_eval[keep],
        on_device=False,
        host_mean_ns=_mean(end[keep] - start[keep]),
        straddle=0.0,
    )


def _device_windows(trace: RankTrace, work: Bool) -> Windows:
    steps, events = trace.steps, trace.events
    index = steps.index.astype(np.int64)
    host_start, host_end = _tiled(index, steps.start_ns, steps.end_ns)
    first, last = _first_and_last(events, work, index)
    if len(index) == 1:
        # One step has no successor to end its window: take the host's step and the device's tail.
        start, end = host_start, np.maximum(host_end, last)
        keep = np.ones(1, dtype=np.bool_)
    else:
        start = np.maximum.accumulate(np.where(first == NONE, host_start, first))
        end = np.append(start[1:], start[-1:])
        follows = np.append(np.diff(index) == 1, False)
        keep = steps.complete & follows & (end > start)
    return Windows(
        step=index[keep],
        start_ns=start[keep],
        end_ns=end[keep],
        has_eval=steps.has_eval[keep],
        on_device=True,
        host_mean_ns=_mean((host_end - host_start)[keep]),
        straddle=_straddle(events, work, index[keep], start[keep], end[keep]),
    )


def _tiled(index: I64, start: I64, end: I64) -> tuple[I64, I64]:
    """End each step where the next one starts, if the next one was captured."""
    follows = np.diff(index) == 1
    tiled = end.copy()
    tiled[:-1][follows] = start[1:][follows]
    return start, tiled


def _first_and_last(events: Events, work: Bool, steps: I64) -> tuple[I64, I64]:
    """First start and last end of the device work that each step launched; NONE without any."""
    of_step = events.step[work]
    row = np.searchsorted(steps, of_step)
    known = (row < len(steps)) & (of_step != NONE)
    known[known] = steps[row[known]] == of_step[known]
    far = np.iinfo(np.int64).max
    first = np.full(len(steps), far, dtype=np.int64)
    last = np.full(len(steps), NONE, dtype=np.int64)
    np.minimum.at(first, row[known], events.start_ns[work][known])
    np.maximum.at(last, row[known], events.end_ns[work][known])
    return np.where(first == far, NONE, first), last


def _straddle(events: Events, work: Bool, steps: I64, start: I64, end: I64) -> float:
    of_step = events.step[work]
    row = np.searchsorted(steps, of_step)
    known = row < len(steps)
    known[known] = steps[row[known]] == of_step[known]
    row = row[known]
    begin, finish = events.start_ns[work][known], events.end_ns[work][known]
    inside = np.minimum(finish, end[row]) - np.maximum(begin, start[row])
    whole = int((finish - begin).sum())
    return 1.0 - float(np.maximum(inside, 0).sum()) / whole if whole else 0.0


def _mean(values: I64) -> float:
    return float(values.mean()) if len(values) else 0.0

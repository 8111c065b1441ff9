"""What else a step line says on some machines: device time of steps, memory in use.

A meter is called at every step boundary with the step that has just ended and returns fields for
its line, b"" for none. One that fails is taken away, and the step line is written without it.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from .facts import uses_cuda

Meter = Callable[[int], bytes]

MOST_PENDING = 64  # steps that the device may be behind; more are not timed
PAGE = os.sysconf("SC_PAGE_SIZE")


def of_process(memory: bool, in_window: Callable[[], bool]) -> list[Meter]:
    """The meters of this process; `memory`: in every step, else only where `in_window()`."""
    if uses_cuda():
        return [DeviceTimes(torch.cuda), DeviceMemory(torch.cuda, memory, in_window)]
    return [resident_memory] if memory else []


class DeviceTimes:
    """Time between step boundaries on the device: CUDA events, asked about steps later.

    Nothing waits for the device. A step's time is in the line of a later step, or in a record of
    its own at the end: `"dv":[[step, ns], ...]`.
    """

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda
        self._last: Any = None  # recorded at the last boundary
        self._pending: deque[tuple[int, Any, Any]] = deque()
        self._free: list[Any] = []

    def __call__(self, step: int) -> bytes:
        """Mark the end of `step`; the steps that the device has finished meanwhile."""
        if self.cuda.is_current_stream_capturing():  # an event would become part of the graph
            self._last = None
            return b""
        event = self._free.pop() if self._free else self.cuda.Event(enable_timing=True)
        event.record()
        if self._last is not None and len(self._pending) < MOST_PENDING:
            self._pending.append((step, self._last, event))
        self._last = event
        times = self.finished()
        pairs = ",".join(f"[{number},{took}]" for number, took in times)
        return f',"dv":[{pairs}]'.encode() if times else b""

    def finished(self) -> list[tuple[int, int]]:
        """Steps and nanoseconds of what the device has done since the last call."""
        found = []
        while self._pending and self._pending[0][2].query():
            step, begun, ended = self._pending.popleft()
            found.append((step, int(begun.elapsed_time(ended) * 1e6)))
            self._free.append(begun)
        return found


class DeviceMemory:
    """What the allocator holds: `"mem":[allocated, its peak, reserved, its peak, retries]`.

    Bytes; peaks and retries since the start: the program's own statistics are not reset. A retry:
    the device had no room, so the allocator gave all of its cache back and asked again.
    """

    def __init__(self, cuda: Any, every_step: bool, in_window: Callable[[], bool]) -> None:
        self.cuda = cuda
        self.every_step = every_step
        self.in_window = in_window

    def __call__(self, step: int) -> bytes:
        """The state after `step`."""
        if not (self.every_step or self.in_window()):
            return b""
        stats = self.cuda.memory_stats_as_nested_dict()
        allocated, reserved = stats["allocated_bytes"]["all"], stats["reserved_bytes"]["all"]
        return b',"mem":[%d,%d,%d,%d,%d]' % (
            *(allocated["current"], allocated["peak"]),
            *(reserved["current"], reserved["peak"]),
            stats["num_alloc_retries"],
        )


def resident_memory(step: int) -> bytes:
    """Bytes of this process in memory, now and at most so far: `"rss":[now, peak]`."""
    with open("/proc/self/statm", "rb") as file:
        now = int(file.read().split()[1]) * PAGE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return b',"rss":[%d,%d]' % (now, max(now, peak))

"""The Kineto window: record the operators of a few steps, the same ones on all ranks.

Two profilers in one process crash it (the second start silently ends the first, and the first's
export then reads freed memory), so the user's own profiler always wins: ours does not start while
another runs, and closes at once when another is about to start.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.autograd.profiler import record_function

from . import ranges
from .capture import Detail
from .facts import Facts, uses_cuda
from .files import Stream
from .flight import FlightRecorder
from .identity import Identity
from .nsight import NsightProfile
from .profilers import make_profile, release, start_quietly
from .size_limit import SizeLimit

NEVER = 1 << 62


class Recording(Protocol):
    """What a window needs of its rank."""

    folder: str
    streams: str  # the folder for streams
    step: int
    who: Identity
    stream: Stream
    facts: Facts

    def warn(self, text: str) -> None:
        """Record a failure of ours."""


class Window:
    """The trace windows of one rank, opened and closed at step boundaries."""

    def __init__(self, rank: Recording, asked: tuple[tuple[int, int], ...], detail: Detail) -> None:
        self.rank = rank
        self.waiting: list[tuple[int, int]] = list(asked)
        self.detail = detail
        self.limit = SizeLimit(detail.max_bytes)
        self.profile: Any = None  # the running torch.profiler.profile
        self.touched = False  # our profiler ran, started or stopped in the running step
        self.next_step = self._next_start()
        self.busy = False  # the profiler is being started, stopped or saved
        self.interrupted_by = 0  # a signal that came meanwhile and waits for that to be over
        self._lock = threading.RLock()
        self._range: Any = None
        self._opened = self._first = self._last = 0
        self._owner = 0
        self._all_threads = False
        self._nsight_is_over = False
        self._start_ns = 0
        self._bounds: list[int] = []  # Unix time at which the window's steps began
        self._flight: FlightRecorder | None = None

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Keep other threads out and put off SIGTERM until the profiler is in a sane state."""
        with self._lock:
            self.busy = True
            try:
                yield
            finally:
                self.busy = False
        number, self.interrupted_by = self.interrupted_by, 0
        if number:
            os.kill(os.getpid(), number)

    def others_profiler(self) -> bool:
        """Whether a profiler that is not ours runs now."""
        return self.profile is None and torch._C._autograd._profiler_enabled()

    def at_boundary(self, unix_ns: int = 0) -> None:
        """A step has just ended, or the rank has just been activated; `rank.step` begins."""
        step = self.rank.step
        self.touched = self.profile is not None
        if self.profile is not None:
            self._end_range()
            if step > self._ending():
                self.close(self._last)
            elif self.limit.bytes is not None and step == self._opened + 1:
                self._measure(step)
        if self.profile is None and self.waiting and step >= self.waiting[0][0] - 1:
            self._open(step)
        if self.profile is not None:
            self.touched = True
            self.next_step = step + 1
            if self._flight is not None and step >= self._flight.next_read:
                self._read_flight()
            self._bounds.append(unix_ns or time.time_ns())
            self._begin_range(step)
        elif self.touched:
            self.next_step = step + 1  # once more, to clear `touched`
        else:
            self.next_step = self._next_start()

    def _ending(self) -> int:
        """The last step to record: nsys goes on for one more, for ranks that are behind."""
        return self._last + isinstance(self.profile, NsightProfile)

    def add(self, first: int, last: int) -> None:
        """Have one more window, from any thread."""
        self.waiting = sorted([*self.waiting, (first, last)])
        self.remind()

    def remind(self) -> None:
        """Look again when the next window begins: a boundary may have overwritten it meanwhile."""
        if self.profile is None:
            self.next_step = min(self.next_step, self._next_start())

    def _next_start(self) -> int:
        return max(self.waiting[0][0] - 1, 0) if self.waiting else NEVER

    def _open(self, step: int) -> None:
        first, last = self.waiting.pop(0)
        if step > last:
            return
        if torch._C._autograd._profiler_enabled():
            self.rank.warn(f"window {first}:{last} skipped: the program's own profiler was running")
            return
        if self.detail.nsys and uses_cuda() and self._nsight_is_over:
            self.rank.warn(f"window {first}:{last} skipped: nsys records one window")
            return
        with self._undisturbed():
            self._flight = self._mark_flight(step)
            self._start()
            # A window opened after its first step began holds the steps from the next one on.
            self._opened, self._first, self._last = step, max(first, step), last
            self._bounds = []

    def _start(self) -> None:
        profile: Any
        if self.detail.nsys and uses_cuda():
            profile, self._all_threads = NsightProfile(self.rank.who.local_rank in (None, 0)), False
            self._nsight_is_over = True  # once this window has closed
        else:
            profile, self._all_threads = make_profile(self.detail)
        start_quietly(profile)
        self.profile = profile
        ranges.state.recording = True
        self._owner = threading.get_ident()
        self._start_ns = time.perf_counter_ns()

    def _measure(self, step: int) -> None:
        """The step before `step` has been traced: leave out what --max-bytes has no room for."""
        with self._undisturbed():
            profile, self.profile = self.profile, None
            ranges.state.recording = False
            profile.stop()
            draft = os.path.join(self.rank.folder, ".size.tmp")
            profile.export_chrome_trace(draft)
            release(profile)
            size = os.path.getsize(draft)
            os.unlink(draft)
            asked = f"{self._first}:{self._last}"
            last = min(self._last, step + self.limit.steps_of(size) - 1)
            if last < self._last:
                left = f"shortened to {self._first}:{last}" if last >= step else "skipped"
                self.rank.warn(f"window {asked} {left}: a step takes {size} bytes (--max-bytes)")
            self._last = last
            if last >= step:
                self._start()
                self._first = max(self._first, step)

    def _mark_flight(self, step: int) -> FlightRecorder | None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return None
        try:
            flight = FlightRecorder(self.rank.streams, self.rank.who.rank, self.rank.warn)
            flight.mark(step)
        except Exception as error:  # private to torch: without it there still is a trace
            self.rank.warn(f"torch's flight recorder could not be read: {error!r}")
            return None
        return flight

    def _read_flight(self) -> None:
        if self._flight is None:
            return
        try:
            self._flight.collect(self._bounds, self._opened)
        except Exception as error:  # private to torch: without it there still is a trace
            self.rank.warn(f"torch's flight recorder could not be read: {error!r}")

    def _begin_range(self, step: int) -> None:
        self._range = record_function(f"ProfilerStep#{step}")
        self._range.__enter__()

    def _end_range(self) -> None:
        open_range, self._range = self._range, None
        if open_range is not None and threading.get_ident() == self._owner:
            open_range.__exit__(None, None, None)

    def close(self, last: int, *, unfinished: bool = False) -> None:
        """Stop the profiler and write the trace of the steps up to `last`.

        A trace without a complete step is written only if the `unfinished` one is of interest.
        """
        with self._undisturbed():
            profile, self.profile = self.profile, None
            ranges.state.recording = False
            if profile is None:
                return
            self._end_range()
            if threading.get_ident() != self._owner and not self._all_threads:
                self.rank.warn("trace lost: this torch cannot stop a profiler from another thread")
                return
            if last >= self._first or (unfinished and self.rank.step >= self._first):
                self._save(profile, max(last, self._first))
            else:
                profile.stop()
                release(profile)
                asked = f"{self._first}:{self._last}"
                self.rank.warn(f"window {asked} has no trace: it ended before its first step did")

    def _save(self, profile: Any, last: int) -> None:
        begun = time.perf_counter_ns()
        profile.stop()
        stopped = time.perf_counter_ns()
        if isinstance(profile, NsightProfile):
            self._record(last, "", (begun, stopped, stopped), 0)
            return
        name = f"trace-{self._first:04d}-{last:04d}.json"
        path = os.path.join(self.rank.folder, name)
        draft = os.path.join(self.rank.folder, f".{name}.tmp")
        profile.export_chrome_trace(draft)
        release(profile)
        os.replace(draft, path)
        size = os.path.getsize(path)
        self.limit.written += size
        self._record(last, f"{name}.gz", (begun, stopped, time.perf_counter_ns()), size)

    def _record(self, last: int, file: str, times: tuple[int, int, int], size: int) -> None:
        """Note a closed window; `times`: it was closed, the profiler stopped, the trace written."""
        self._read_flight()
        closed, stopped, exported = times
        self.rank.stream.record(
            "window",
            first=self._first,
            last=last,
            file=file,
            t0=self._start_ns,
            t1=closed,
            stop_ns=stopped - closed,
            export_ns=exported - stopped,
            bytes=size,
        )
        self.rank.facts.refresh()

    def yield_to_other(self) -> None:
        """Another profiler of this process is about to start: save ours and get out of its way."""
        if self.profile is not None:
            self.rank.warn("window closed early: the program started a profiler of its own")
            self.close(self.rank.step - 1)

    def finish(self, *, unfinished: bool) -> None:
        """The process ends: save what there is; of a process that hung, the unfinished step too."""
        self.close(self.rank.step - 1, unfinished=unfinished)

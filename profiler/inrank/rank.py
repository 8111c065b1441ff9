"""One activated rank: its folder, its step lines, its window."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import identity, meters, out_of_memory, streams
from .capture import Capture
from .facts import Facts, uses_cuda
from .files import Stream
from .orders import Orders
from .tally import Tally, tally
from .window import NEVER, Window

MAX_WARNINGS = 20
LINE = b'{"k":"step","i":%d,"t0":%d,"t1":%d,"u1":%d,"in":%d,"ck":%d,"mb":%d,"ev":%d,"pr":%d'


class Rank:
    """What a process that trains records of itself. Created by `activation.activate` only."""

    def __init__(self, request: Capture, evidence: str) -> None:
        self.who = identity.identify()
        self.folder = os.path.join(request.run_dir, self.who.folder)
        os.makedirs(self.folder, exist_ok=True)
        self.streams = streams.folder_for(request.stream_dir, self.who.folder, self.folder)
        self.stream = Stream(
            os.path.join(self.streams, "steps.jsonl"), run_id=request.run_id, rank=self.who.rank
        )
        self.facts = Facts(self.folder, request, self.who, evidence)
        if self.streams != self.folder:
            self.facts.known["stream_folder"] = self.streams
        traced = request.traces(self.who.rank, self.who.world_size, self.who.local_rank)
        self.facts.known["traced"] = traced
        self.window = Window(self, request.windows if traced else (), request.detail)
        self.step = 0  # the running step
        self.source: str | None = None  # what ends a step: optimizer, perfkit.step, dataloader
        self.orders = Orders(self, request.run_dir, traced)
        self.ended = False
        self.step_limit = NEVER if request.stop_after is None else request.stop_after
        self.at_limit: Callable[[], None] | None = None  # ends the process (finish.stop_here)
        self.at_end: list[Callable[[], None]] = []  # what else has something to save
        self.after_step: Callable[[Rank, int], None] | None = None  # of perfkit faults
        self.meters: list[meters.Meter] = []  # of more fields in every step line
        self._others_profiler = False  # one that is not ours ran as this step began
        self._warnings: list[str] = []

    def open(self) -> None:
        """Write the first facts, open a window that starts at once."""
        tally.thread = threading.get_ident()
        self.facts.write()
        self.orders.watch()
        if self.facts.known["activated_by"] in ("init_process_group", "ddp"):
            self.window.at_boundary()

    def boundary(self, source: str) -> None:
        """End the running step here. The hot path: called once a step."""
        now, unix = time.perf_counter_ns(), time.time_ns()
        line = self._line(tally, now, unix)
        self.stream.write((line + self._metered() if self.meters else line) + b"}\n")
        if self.step == 0:
            self._first_boundary(source)
        tally.begin(now)
        if self.after_step is not None:
            self.after_step(self, self.step)
        self.step += 1
        if self.step >= self.window.next_step:
            self.window.at_boundary(unix)
        if self.step >= self.step_limit and self.at_limit is not None:
            self.at_limit()

    def _line(self, t: Tally, now: int, unix: int) -> bytes:
        has_eval = t.has_eval or t.eval_candidate
        others = self.window.others_profiler()
        profiled = self.window.touched or others or self._others_profiler
        self._others_profiler = others
        line = LINE % (
            *(self.step, t.start_ns or now, now, unix, t.input_ns, t.checkpoint_ns, t.backwards),
            *(has_eval, profiled),
        )
        samples = t.samples + t.fetched_samples
        if samples:
            line += b',"n":%d' % samples
            tokens = t.tokens + t.fetched_tokens
            if tokens:
                line += b',"tok":%d' % tokens
        if t.gc:
            line += b',"gc":' + json.dumps(t.gc).encode()
        if t.compile:
            line += b',"co":' + json.dumps(t.compile).encode()
        return line

    def _metered(self) -> bytes:
        fields = b""
        for meter in list(self.meters):
            try:
                fields += meter(self.step)
            except Exception as error:  # a failure of ours must not end the training
                self.meters.remove(meter)
                self.warn(
                    f"step lines have no more of {getattr(meter, '__name__', meter)}: {error!r}"
                )
        return fields

    def _first_boundary(self, source: str) -> None:
        self.source = source
        if not isinstance(threading.current_thread(), threading._DummyThread):
            tally.thread = threading.get_ident()  # else an autograd thread that steps in backward
        self.facts.add(step_source=source, training_thread=_thread_id(tally.thread))
        self.meters = meters.of_process(self.window.detail.memory, lambda: self.window.touched)
        self.at_end.append(self._save_device_times)
        if uses_cuda():
            out_of_memory.watch(self)

    def learn(self, **facts: Any) -> None:
        """Add facts; each is written when first known."""
        self.facts.add(**facts)

    def warn(self, text: str) -> None:
        """Record a failure of ours, once, and at most a few in a run."""
        if text in self._warnings or len(self._warnings) >= MAX_WARNINGS:
            return
        self._warnings.append(text)
        with suppress(OSError):  # a full disk, say: there is nowhere left to say so
            self.stream.record("warning", text=text)
            self.facts.add(warnings=list(self._warnings))

    def end(self, how: str, status: int | None) -> None:
        """Close the window and write the last record; later calls do nothing."""
        if self.ended:
            return
        self.ended = True
        self.window.finish(unfinished=how.startswith("signal"))
        for save in self.at_end:
            try:
                save()
            except Exception as error:  # the last record is still to be written
                self.warn(f"not everything was saved: {error!r}")
        if self.stream.lost:
            self.warn(f"{self.stream.lost} lines of steps.jsonl were lost: {self.stream.why_lost}")
        self.facts.refresh()
        end: dict[str, Any] = {"how": how, "status": status}
        self.stream.record("end", **end, t=time.perf_counter_ns(), u=time.time_ns())
        streams.bring(self.streams, self.folder)

    def _save_device_times(self) -> None:
        for meter in self.meters:
            if isinstance(meter, meters.DeviceTimes) and (times := meter.finished()):
                self.stream.record("device_steps", dv=times)


def _thread_id(ident: int) -> int | None:
    """OS id of the thread that Python knows as `ident`."""
    for thread in threading.enumerate():
        if thread.ident == ident:
            return thread.native_id
    return None

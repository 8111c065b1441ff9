"""One activated rank: its folder, its step lines, its window."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from . import identity
from .capture import Capture
from .facts import Facts
from .files import Stream
from .tally import Tally, tally
from .window import Window

MAX_WARNINGS = 20


class Rank:
    """What a process that trains records of itself. Created by `activation.activate` only."""

    def __init__(self, request: Capture, evidence: str) -> None:
        self.who = identity.identify()
        self.folder = os.path.join(request.run_dir, self.who.folder)
        os.makedirs(self.folder, exist_ok=True)
        self.stream = Stream(
            os.path.join(self.folder, "steps.jsonl"), run_id=request.run_id, rank=self.who.rank
        )
        self.facts = Facts(self.folder, request, self.who, evidence)
        self.window = Window(self, request.windows_of(self.who.rank), request.with_stack)
        self.step = 0  # the running step
        self.source: str | None = None  # what ends a step: optimizer, perfkit.step, dataloader
        self.ended = False
        self._warnings: list[str] = []

    def open(self) -> None:
        """Write the first facts, watch for the end, open a window that starts at once."""
        from . import finish

        tally.thread = threading.get_ident()
        self.facts.write()
        finish.watch()
        if self.facts.known["activated_by"] in ("init_process_group", "ddp"):
            self.window.at_boundary()

    def boundary(self, source: str) -> None:
        """End the running step here. The hot path: called once a step."""
        now, unix = time.perf_counter_ns(), time.time_ns()
        t = tally
        if t.eval_candidate:
            t.has_eval = True
        self.stream.write(self._line(t, now, unix))
        if self.step == 0:
            self._first_boundary(source)
        if t.fetched:
            t.commit_fetched()
        t.begin(now)
        self.step += 1
        if self.step >= self.window.next_step:
            self.window.at_boundary(unix)

    def _line(self, t: Tally, now: int, unix: int) -> bytes:
        profiled = self.window.touched or self.window.others_profiler()
        samples = t.samples + t.fetched_samples
        line = (
            f'{{"k":"step","i":{self.step},"t0":{t.start_ns or now},"t1":{now},"u1":{unix},'
            f'"in":{t.input_ns},"ck":{t.checkpoint_ns},"mb":{t.backwards},"ev":{int(t.has_eval)},'
            f'"pr":{int(profiled)}'
        )
        if samples:
            line += f',"n":{samples}'
            tokens = t.tokens + t.fetched_tokens
            if tokens:
                line += f',"tok":{tokens}'
        if t.gc:
            line += f',"gc":{[list(span) for span in t.gc]}'
        if t.compile:
            line += f',"co":{[list(span) for span in t.compile]}'
        return (line + "}\n").encode()

    def _first_boundary(self, source: str) -> None:
        self.source = source
        if not isinstance(threading.current_thread(), threading._DummyThread):
            tally.thread = threading.get_ident()  # else an autograd thread that steps in backward
        self.facts.add(step_source=source, training_thread=_thread_id(tally.thread))

    def learn(self, **facts: Any) -> None:
        """Add facts; each is written when first known."""
        self.facts.add(**facts)

    def warn(self, text: str) -> None:
        """Record a failure of ours, once, and at most a few in a run."""
        if text in self._warnings or len(self._warnings) >= MAX_WARNINGS:
            return
        self._warnings.append(text)
        self.stream.record("warning", text=text)
        self.facts.add(warnings=list(self._warnings))

    def end(self, how: str, status: int | None) -> None:
        """Close the window and write the last record; later calls do nothing."""
        if self.ended:
            return
        self.ended = True
        self.window.finish()
        self.facts.at_exit()
        end: dict[str, Any] = {"how": how, "status": status}
        self.stream.record("end", **end, t=time.perf_counter_ns(), u=time.time_ns())


def _thread_id(ident: int) -> int | None:
    """OS id of the thread that Python knows as `ident`."""
    for thread in threading.enumerate():
        if thread.ident == ident:
            return thread.native_id
    return None

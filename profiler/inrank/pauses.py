"""When Python's garbage collector and torch's compiler held up a step."""

from __future__ import annotations

import gc
import time
from typing import Any, Callable

from .tally import MIN_GC_NS, tally


class Pauses:
    """Listens to the collector and the compiler; one of each runs at a time."""

    def __init__(self) -> None:
        self._gc_begun = 0
        self._compile_begun = 0

    def on_gc(self, phase: str, info: dict[str, int]) -> None:
        """Called by the collector at its start and its end."""
        now = time.perf_counter_ns()
        if phase == "start":
            self._gc_begun = now
        elif tally.start_ns and now - self._gc_begun >= MIN_GC_NS:
            tally.gc.append((self._gc_begun, now - self._gc_begun))

    def compile_starts(self, *args: Any) -> None:
        """Called by dynamo before it compiles a frame."""
        self._compile_begun = time.perf_counter_ns()

    def compile_ends(self, *args: Any) -> None:
        """Called by dynamo once it has compiled a frame, nested frames included."""
        if tally.start_ns and self._compile_begun:
            now = time.perf_counter_ns()
            tally.compile.append((self._compile_begun, now - self._compile_begun))

    def listen_to_compiler(self, callback: Any) -> None:
        """Register with `torch._dynamo.callback`, which has just been imported."""
        handler: Any = getattr(callback, "callback_handler", None)
        if hasattr(handler, "register_start_callback"):
            handler.register_start_callback(self.compile_starts)
            handler.register_end_callback(self.compile_ends)


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Listen to the collector now, to the compiler once it is imported."""
    pauses = Pauses()
    gc.callbacks.append(pauses.on_gc)
    waiting["torch._dynamo.callback"] = pauses.listen_to_compiler

"""Traces that the program's own torch.profiler writes: where they went, for the parent to collect.

Both classes that can export are patched, and one calls the other: only the outermost call counts,
whose file is the one that the program asked for.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable

from . import activation
from .patching import patch


class Exports:
    """How deep this process is inside of exports."""

    def __init__(self) -> None:
        self.depth = 0


exports = Exports()


def _noted(original: Callable[..., Any]) -> Callable[..., Any]:
    def export_chrome_trace(self: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        exports.depth += 1
        try:
            result = original(self, path, *args, **kwargs)
        finally:
            exports.depth -= 1
        if exports.depth == 0:
            try:
                _note(path)
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"a trace of the program's own is not collected: {error!r}")
        return result

    return export_chrome_trace


def _note(path: Any) -> None:
    rank = activation.this.rank
    place = os.path.abspath(os.fspath(path))
    if rank is None or rank.ended or place.startswith(rank.folder + os.sep):
        return  # nobody's, or our own window
    rank.stream.record("own_trace", file=place, t=time.perf_counter_ns(), u=time.time_ns())


def install() -> None:
    """Patch the exports of torch.profiler and of torch.autograd.profiler."""
    import torch.profiler  # torch has it by now

    patch(torch.autograd.profiler.profile, "export_chrome_trace", _noted)
    kineto = getattr(torch.profiler.profiler, "_KinetoProfile", None)
    if kineto is not None:
        patch(kineto, "export_chrome_trace", _noted)

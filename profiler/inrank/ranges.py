"""Ranges of ours inside the trace; only while a window is open."""

from __future__ import annotations

from typing import Any

from torch.autograd.profiler import record_function


class State:
    """Whether a window of ours is open: one attribute to look at on every fetch."""

    recording = False


state = State()


def begin(name: str) -> Any:
    """Open a range on this thread; None where no window is open."""
    if not state.recording:
        return None
    mark: Any = record_function(name)
    mark.__enter__()
    return mark


def end(mark: Any) -> None:
    """Close what `begin` returned."""
    if mark is not None:
        mark.__exit__(None, None, None)

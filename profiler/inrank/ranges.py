"""Ranges of ours inside the trace; free while no window is open."""

from __future__ import annotations

from typing import Any

from torch.autograd.profiler import record_function

from . import activation


def begin(name: str) -> Any:
    """Open a range on this thread; None where no window of ours is open."""
    rank = activation.this.rank
    if rank is None or rank.window.profile is None:
        return None
    mark: Any = record_function(name)
    mark.__enter__()
    return mark


def end(mark: Any) -> None:
    """Close what `begin` returned."""
    if mark is not None:
        mark.__exit__(None, None, None)

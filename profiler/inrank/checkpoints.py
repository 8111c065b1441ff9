"""How long the training thread writes and reads checkpoints."""

from __future__ import annotations

import time
from threading import get_ident
from typing import Any, Callable

import torch

from . import ranges, saved_files
from .patching import patch
from .tally import tally


def _timed(original: Callable[..., Any]) -> Callable[..., Any]:
    def checkpointing(*args: Any, **kwargs: Any) -> Any:
        if tally.depth or not tally.start_ns or get_ident() != tally.thread:
            return original(*args, **kwargs)
        tally.depth += 1
        mark = ranges.begin("perfkit::checkpoint")
        begun = time.perf_counter_ns()
        try:
            return original(*args, **kwargs)
        finally:
            tally.checkpoint_ns += time.perf_counter_ns() - begun
            tally.depth -= 1
            ranges.end(mark)

    return checkpointing


def _noted(original: Callable[..., Any]) -> Callable[..., Any]:
    """torch.save, whose file is remembered."""
    timed = _timed(original)

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        result = timed(obj, f, *args, **kwargs)
        if get_ident() == tally.thread:
            saved_files.note(f)
        return result

    return save


def _uncounted(original: Callable[..., Any]) -> Callable[..., Any]:
    """Pickling a storage calls torch.save and torch.load on a buffer: that is no checkpoint."""

    def pickling(*args: Any, **kwargs: Any) -> Any:
        if get_ident() != tally.thread:
            return original(*args, **kwargs)
        tally.depth += 1
        try:
            return original(*args, **kwargs)
        finally:
            tally.depth -= 1

    return pickling


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Patch torch.save and torch.load now, torch.distributed.checkpoint once it is imported."""
    for name, wrap in (("save", _noted), ("load", _timed)):
        if patch(torch.serialization, name, wrap):
            setattr(torch, name, getattr(torch.serialization, name))
    saved_files.install(_timed)
    patch(torch.storage, "_load_from_bytes", _uncounted)
    for name in ("TypedStorage", "_StorageBase"):
        if hasattr(torch.storage, name):
            patch(getattr(torch.storage, name), "__reduce__", _uncounted)
    waiting["torch.distributed.checkpoint"] = _patch_distributed


def _patch_distributed(checkpoint: Any) -> None:
    homes = [getattr(checkpoint, home, None) for home in ("state_dict_saver", "state_dict_loader")]
    for name in ("save", "load", "async_save", "save_state_dict", "load_state_dict"):
        if patch(checkpoint, name, _timed):
            for home in homes:
                if hasattr(home, name):
                    setattr(home, name, getattr(checkpoint, name))

"""How long the training thread writes and reads checkpoints."""

from __future__ import annotations

import time
from threading import get_ident
from typing import Any, Callable

import torch

from . import ranges
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


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Patch torch.save and torch.load now, torch.distributed.checkpoint once it is imported."""
    for name in ("save", "load"):
        if patch(torch.serialization, name, _timed):
            setattr(torch, name, getattr(torch.serialization, name))
    waiting["torch.distributed.checkpoint"] = _patch_distributed


def _patch_distributed(checkpoint: Any) -> None:
    homes = [getattr(checkpoint, home, None) for home in ("state_dict_saver", "state_dict_loader")]
    for name in ("save", "load", "async_save", "save_state_dict", "load_state_dict"):
        if patch(checkpoint, name, _timed):
            for home in homes:
                if hasattr(home, name):
                    setattr(home, name, getattr(checkpoint, name))

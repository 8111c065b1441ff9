"""The program's own profiler wins: ours is saved and gone before another one starts."""

from __future__ import annotations

from typing import Any, Callable

import torch

from . import activation
from .patching import patch


def _give_way(original: Callable[..., Any]) -> Callable[..., Any]:
    def starting(self: Any, *args: Any, **kwargs: Any) -> Any:
        rank = activation.this.rank
        if rank is not None and rank.window.profile is not None:
            try:
                rank.window.yield_to_other()
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"the window was lost to the program's profiler: {error!r}")
        return original(self, *args, **kwargs)

    return starting


def install() -> None:
    """Patch every way to start a profiler from Python."""
    profiler = torch.autograd.profiler
    patch(profiler.profile, "_prepare_trace", _give_way)
    for name in ("emit_nvtx", "emit_itt"):
        if hasattr(profiler, name):
            patch(getattr(profiler, name), "__enter__", _give_way)
    legacy = getattr(torch.autograd, "profiler_legacy", None)
    if legacy is not None:
        patch(legacy.profile, "__enter__", _give_way)

"""Variables of the launched command: whether they reached this rank, and whether it reads them."""

from __future__ import annotations

import os
from typing import Any

import torch

from .applying import Applying
from .steps import steps

BACKENDS = {"nccl-environment": "nccl", "gloo-environment": "gloo"}


def install(recipe: Applying) -> None:
    """Look after the first step, when the script has chosen its device and backend."""

    def after_step(_: Any) -> None:
        if steps.done != 1:
            return
        reason = _reason(recipe)
        if reason:
            recipe.refuse(reason)
            return
        for name, value in recipe.variables.items():
            recipe.applied(name, None, value)

    steps.install()
    steps.after.append(after_step)


def _reason(recipe: Applying) -> str:
    """Why the variables do nothing here; "" if they may."""
    for name, value in recipe.variables.items():
        if os.environ.get(name) != value:
            return f"the script or its launcher sets {name} itself"
    if recipe.name == "allocator" and not torch.cuda.is_initialized():
        return "no CUDA device is in use: there is no caching allocator"
    wanted = BACKENDS.get(recipe.name)
    return "" if wanted is None or wanted in _backends() else f"the backend is not {wanted}"


def _backends() -> str:
    """The default group's backends: `gloo`, `nccl`, or one a device as in cpu:gloo,cuda:nccl."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return ""
    config: Any = getattr(dist, "get_backend_config", dist.get_backend)
    return str(config())

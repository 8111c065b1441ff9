"""Evidence of a rank: a process group is initialised, a DistributedDataParallel is built."""

from __future__ import annotations

import weakref
from typing import Any, Callable

import torch

from . import activation, facts
from .patching import patch


def _init_process_group(original: Callable[..., Any]) -> Callable[..., Any]:
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        try:
            rank = activation.activate("init_process_group")
            if rank is not None:
                rank.learn(**facts.group_facts())
        except Exception as error:  # a failure of ours must not end the training
            activation.warn(f"the process group was not recorded: {error!r}")
        return result

    return init_process_group


def _ddp_init(original: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            rank = activation.activate("ddp")
            if rank is not None and rank.facts.ddp is None:
                rank.facts.ddp = weakref.ref(self)
                rank.learn(**facts.ddp_facts(self), **facts.device_facts())
        except Exception as error:  # a failure of ours must not end the training
            activation.warn(f"DDP's settings were not recorded: {error!r}")

    return init


def install() -> None:
    """Patch where torch has the distributed package at all."""
    dist = torch.distributed
    if not dist.is_available():
        return
    if patch(dist.distributed_c10d, "init_process_group", _init_process_group):
        dist.init_process_group = dist.distributed_c10d.init_process_group
    patch(torch.nn.parallel.DistributedDataParallel, "__init__", _ddp_init)

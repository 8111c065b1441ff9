"""Gradient compression: a communication hook on every DDP that has none of the script's own."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .applying import Applying, patch, place, sharded


def install(recipe: Applying) -> None:
    """Register at the first forward: a hook that the script registers before then wins."""
    done: set[int] = set()
    made: dict[int, Any] = {}

    def wrap_init(original: Callable[..., Any]) -> Callable[..., Any]:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            made[id(self)] = place()
            original(self, *args, **kwargs)

        return init

    patch(torch.nn.parallel.DistributedDataParallel, "__init__", wrap_init)

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def pre_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if id(self) not in done and not torch.compiler.is_compiling():
                done.add(id(self))
                _register(recipe, self, made.get(id(self)))
            return original(self, *args, **kwargs)

        return pre_forward

    if not patch(torch.nn.parallel.DistributedDataParallel, "_pre_forward", wrap):
        recipe.refuse("this release of torch has no place for it")


def _register(recipe: Applying, ddp: Any, where: Any) -> None:
    reason = recipe.framework() or _reason(recipe, ddp)
    if reason:
        recipe.refuse(reason)
        return
    try:
        state, hook = _hook_of(recipe, ddp)
        ddp._perfkit_ours = True
        ddp.register_comm_hook(state, hook)
        recipe.applied("comm_hook", None, recipe.name, where)
    except Exception as error:  # the training goes on with DDP's own all-reduce
        recipe.refuse(f"DDP did not take the hook: {error}")


def _reason(recipe: Applying, ddp: Any) -> str:
    if getattr(ddp, "_comm_hooks", None):
        return "the script registered a communication hook itself"
    parameters = [p for p in ddp.module.parameters() if p.requires_grad]
    if sharded(parameters):
        return "parameters are sharded (DTensor or FSDP)"
    if recipe.name != "powersgd" and any(p.dtype != torch.float32 for p in parameters):
        return "gradients are not all fp32: there is nothing to halve"
    return ""


def _hook_of(recipe: Applying, ddp: Any) -> tuple[Any, Callable[..., Any]]:
    """State and hook. DDP refuses bf16 by the hook's name off CUDA, so ours has its own name."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    group = ddp.process_group
    if recipe.name == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            group,
            matrix_approximation_rank=int(recipe.values["rank"]),
            start_powerSGD_iter=max(int(recipe.values["start"]), 2),
        )
        return state, powerSGD_hook.powerSGD_hook
    half = recipe.name == "bf16-gradients"
    compress = default_hooks.bf16_compress_hook if half else default_hooks.fp16_compress_hook

    def halved(state: Any, bucket: Any) -> Any:
        return compress(state, bucket)

    halved.__annotations__.clear()  # DDP compares them with classes, ours are strings
    return group, halved

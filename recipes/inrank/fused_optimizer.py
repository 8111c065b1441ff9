"""Adam, AdamW, SGD and Adagrad with `fused=True`, where the script chose nothing."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

import torch

from .applying import Applying, patch, place, sharded

CHOICES = ("fused", "foreach", "differentiable", "capturable")
CLASSES = ("Adam", "AdamW", "SGD", "Adagrad")


def install(recipe: Applying) -> None:
    """Patch the constructors; subclasses are left alone."""
    for name in CLASSES:
        owner = getattr(torch.optim, name)
        patch(owner, "__init__", functools.partial(_init, recipe, owner))


def _init(recipe: Applying, owner: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)

    def init(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not owner:
            original(self, params, *args, **kwargs)
            return
        params = params if isinstance(params, torch.Tensor) else list(params)
        given = signature.bind(self, params, *args, **kwargs).arguments
        fusable = "fused" in signature.parameters
        reason = recipe.framework() or (_reason(given, params) if fusable else "no fused form here")
        if not reason and not recipe.refused:
            try:
                original(self, params, *args, **{**kwargs, "fused": True})
                recipe.applied("fused", None, True, place())
                return
            except (RuntimeError, ValueError) as error:
                reason = f"torch refuses: {error}"
        recipe.refuse(reason)
        original(self, params, *args, **kwargs)

    return init


def _reason(given: dict[str, Any], params: Any) -> str:
    for name in CHOICES:
        if given.get(name):
            return f"the script chose {name}={given[name]} itself"
    if given.get("foreach") is False or given.get("fused") is False:
        return "the script chose foreach or fused itself"
    tensors = list(_tensors(params))
    if not tensors:
        return ""  # torch itself complains
    if not all(p.is_floating_point() for p in tensors):
        return "parameters are not all floating point"
    if len({p.device for p in tensors}) > 1:
        return "parameters are on several devices"
    return "parameters are sharded (DTensor or FSDP)" if sharded(tensors) else ""


def _tensors(params: Any) -> Any:
    for each in params:
        inside = each["params"] if isinstance(each, dict) else each
        if isinstance(inside, tuple):  # named parameters
            inside = inside[1]
        yield from [inside] if isinstance(inside, torch.Tensor) else inside

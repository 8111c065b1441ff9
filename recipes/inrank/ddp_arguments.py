"""DDP's constructor with other arguments: bucket size, bucket views, static graph, unused."""

from __future__ import annotations

import inspect
from typing import Any, Callable

import torch

from .applying import Applying, patch, place, sharded

WANTED = {
    "ddp-buckets": ("bucket_cap_mb", None, 25),
    "bucket-view": ("gradient_as_bucket_view", True, False),
    "static-graph": ("static_graph", True, False),
    "find-unused-parameters": ("find_unused_parameters", False, False),
}


def install(recipe: Applying) -> None:
    """Patch DDP's constructor. An argument that the script gives itself stays as it is."""
    ddp = torch.nn.parallel.DistributedDataParallel
    argument, fixed, default = WANTED[recipe.name]
    value = recipe.values["mb"] if fixed is None else fixed

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            given = signature.bind(self, *args, **kwargs).arguments
            reason = recipe.framework() or _reason(recipe, argument, given, default)
            if recipe.refused or reason:
                recipe.refuse(reason)
                original(self, *args, **kwargs)
                return
            if argument in given and argument not in kwargs:  # by position
                args = _replaced(signature, args, argument, value)
            else:
                kwargs[argument] = value
            original(self, *args, **kwargs)
            recipe.applied(argument, given.get(argument, default), value, place())

        return init

    patch(ddp, "__init__", wrap)


def _replaced(signature: Any, args: Any, argument: str, value: Any) -> tuple[Any, ...]:
    position = list(signature.parameters).index(argument) - 1  # self
    return (*args[:position], value, *args[position + 1 :])


def _reason(recipe: Applying, argument: str, given: dict[str, Any], default: Any) -> str:
    chosen = given.get(argument)
    if recipe.name == "find-unused-parameters":
        return "" if chosen else "the script does not ask DDP to look for unused parameters"
    if argument in given and chosen not in (None, default):
        return f"the script chose {argument}={chosen} itself"
    if recipe.name == "static-graph" and given.get("find_unused_parameters"):
        return "the script says that parameters may go unused"
    module = given.get("module")
    if isinstance(module, torch.nn.Module) and sharded(module.parameters()):
        return "parameters are sharded (DTensor or FSDP)"
    return ""

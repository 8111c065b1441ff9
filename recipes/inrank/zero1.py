"""ZeRO-1: the optimizer's state divided among the ranks, by torch's ZeroRedundancyOptimizer."""

from __future__ import annotations

import functools
import linecache
import re
import sys
import threading
from typing import Any

import torch

from .applying import Applying, patch, place, sharded

CLASSES = ("Adam", "AdamW", "SGD", "Adagrad")
SAVES = re.compile(r"opt\w*\.state_dict\(")


def install(recipe: Applying) -> None:
    """Let the constructors of the plain optimizers return a divided one."""
    inside = threading.local()
    for name in CLASSES:
        owner: Any = getattr(torch.optim, name)
        patch(owner, "__init__", functools.partial(_init, inside, owner))
        owner.__new__ = staticmethod(functools.partial(_new, recipe, inside, owner))


def _new(recipe: Applying, inside: Any, owner: Any, cls: Any, *args: Any, **kwargs: Any) -> Any:
    if cls is not owner or getattr(inside, "building", False) or recipe.refused:
        return object.__new__(cls)
    params = kwargs.pop("params") if "params" in kwargs else args[0] if args else ()
    given = list(params) if not isinstance(params, torch.Tensor) else [params]
    where = place()
    reason = recipe.framework() or _reason(given, where, args)
    if reason:
        recipe.refuse(reason)
        inside.given = given
        return object.__new__(cls)
    from torch.distributed.optim import ZeroRedundancyOptimizer

    inside.building = True
    try:
        divided: Any = ZeroRedundancyOptimizer(given, optimizer_class=cls, **kwargs)
    finally:
        inside.building = False
    recipe.applied("optimizer", cls.__name__, f"ZeroRedundancyOptimizer({cls.__name__})", where)
    return divided


def _init(inside: Any, owner: Any, original: Any) -> Any:
    """Give a constructor the parameters back that `_new` took out of a generator."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given, inside.given = getattr(inside, "given", None), None
        if given is not None and type(self) is owner:
            args = (given, *args[1:]) if args else args
            kwargs = kwargs if args else {**kwargs, "params": given}
        original(self, *args, **kwargs)

    return init


def _reason(params: list[Any], where: Any, args: Any) -> str:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return "one rank has nobody to share with"
    if any(not isinstance(p, torch.Tensor) for p in params):
        return "the optimizer has parameter groups"
    if len(args) > 1:
        return "the optimizer's settings are given by position"
    if sharded(params):
        return "parameters are sharded (DTensor or FSDP)"
    if _saves_state(where):
        return "the script saves the optimizer's state, which would be in parts"
    return ""


def _saves_state(where: Any) -> bool:
    """Whether the script, or a module of its own, asks an optimizer for its state."""
    files = {where[0]} if where else set()
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    files |= {main} if main else set()
    return any(SAVES.search(line) for file in files for line in linecache.getlines(file))

"""fp32 matrix products with shorter mantissas, where the script leaves torch's default."""

from __future__ import annotations

from typing import Any

import torch

from .amp import autocast_is_on
from .applying import Applying, place
from .steps import steps


def install(recipe: Applying) -> None:
    """Act at the first forward, when the script has set what it wants to set."""
    module: Any = torch.nn.modules.module

    def at_first_forward(*_: Any) -> None:
        handle.remove()
        _set(recipe)

    handle = module.register_module_forward_pre_hook(at_first_forward)
    steps.install()
    steps.after.append(lambda _: _still(recipe))


def _wanted(recipe: Applying) -> str:
    asked = str(recipe.values["precision"])
    return asked if asked != "auto" else "high" if torch.cuda.is_initialized() else "medium"


def _set(recipe: Applying) -> None:
    try:
        now = torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer interface was used: mixing the two raises
        recipe.refuse("the script sets fp32_precision itself")
        return
    if now != "highest":
        recipe.refuse(f"the script chose the precision {now!r} itself")
        return
    if autocast_is_on("cpu") or autocast_is_on("cuda"):
        recipe.refuse("autocast is on: its products are short already")
        return
    if recipe.framework():
        recipe.refuse(recipe.framework())
        return
    torch.set_float32_matmul_precision(_wanted(recipe))
    recipe.applied("float32_matmul_precision", now, _wanted(recipe), place())


def _still(recipe: Applying) -> None:
    if recipe.refused or steps.done > 3:
        return
    try:
        if torch.get_float32_matmul_precision() != _wanted(recipe):
            recipe.refuse("the script sets a precision of its own later")
    except RuntimeError:
        recipe.refuse("the script sets fp32_precision itself, later")

"""torch.compile in place, before DDP wraps the model, so that state_dict keeps its keys."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from typing import Any

import torch

from .applying import Applying, patch, place, sharded
from .steps import steps

MOST_BREAKS = 10
LOOK_AT_STEP = 6


def install(recipe: Applying) -> None:
    """Patch DDP's constructor; a model without DDP is compiled after its first forward."""
    steps.install()
    ddp = torch.nn.parallel.DistributedDataParallel
    patch(ddp, "__init__", lambda original: _before_ddp(recipe, original))
    module: Any = torch.nn.modules.module

    def find(called: Any, _: Any) -> None:
        if recipe.refused or steps.done or isinstance(called, ddp):
            finder.remove()
            return
        if any(id(p) in steps.owned for p in called.parameters()) and torch.is_grad_enabled():
            finder.remove()
            _compile(recipe, called)

    finder = module.register_module_forward_pre_hook(find)
    steps.after.append(lambda _: _look(recipe))


def _before_ddp(recipe: Applying, original: Any) -> Any:
    def init(self: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        _compile(recipe, module)
        original(self, module, *args, **kwargs)

    return init


def _compile(recipe: Applying, module: Any) -> None:
    reason = recipe.framework() or _reason(module)
    if reason or recipe.refused:
        recipe.refuse(reason)
        return
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    module.compile()
    recipe.applied(f"compiled {type(module).__name__}", False, True, place())


def _reason(module: Any) -> str:
    parameters = list(module.parameters())
    if getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod"):
        return "the script compiles its model itself"
    if sharded(parameters):
        return "parameters are sharded (DTensor or FSDP)"
    on_cpu = not parameters or parameters[0].device.type == "cpu"
    if on_cpu and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        return "there is no C++ compiler"
    if not on_cpu and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return ""


def _look(recipe: Applying) -> None:
    """After some steps: how often the graph breaks."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if steps.done != LOOK_AT_STEP or dynamo is None or recipe.refused:
        return
    breaks = sum(dynamo.counters["graph_break"].values())
    graphs = dynamo.counters["stats"]["unique_graphs"]
    recipe.applied("graph breaks", None, breaks)
    recipe.applied("graphs compiled", None, graphs)
    if not graphs:
        recipe.refuse("nothing was compiled: see the script's own output for dynamo's reason")
    if breaks > MOST_BREAKS:
        recipe.refuse(f"the model's graph breaks at {breaks} places")

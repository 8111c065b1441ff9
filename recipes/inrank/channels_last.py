"""Images channels last: the model before DDP wraps it, its inputs at every forward."""

from __future__ import annotations

import copy
from typing import Any

import torch

from .applying import Applying, patch, place, sharded
from .steps import steps


def install(recipe: Applying) -> None:
    """Act at the first forward of a model that an optimizer trains."""
    steps.install()
    module: Any = torch.nn.modules.module

    def find(called: Any, inputs: Any) -> None:
        if recipe.refused or steps.done:
            finder.remove()
            return
        parameters = list(called.parameters())
        if not torch.is_grad_enabled() or not any(id(p) in steps.owned for p in parameters):
            return
        finder.remove()
        _convert(recipe, called, parameters, inputs)

    finder = module.register_module_forward_pre_hook(find)
    ddp = torch.nn.parallel.DistributedDataParallel
    patch(ddp, "__init__", lambda original: _before_ddp(recipe, original))


def _before_ddp(recipe: Applying, original: Any) -> Any:
    """DDP lays its buckets out by the parameters' strides: change them first."""

    def init(self: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        parameters = list(module.parameters())
        if any(p.dim() == 4 for p in parameters) and not sharded(parameters):
            module.to(memory_format=torch.channels_last)
        original(self, module, *args, **kwargs)

    return init


def _convert(recipe: Applying, model: Any, parameters: list[Any], inputs: Any) -> None:
    reason = ""
    if not any(p.dim() == 4 for p in parameters):
        reason = "there is no 2-D convolution"
    elif sharded(parameters):
        reason = "parameters are sharded (DTensor or FSDP)"
    else:
        reason = _dry_run(model, inputs)
    if reason:
        for p in parameters:
            if p.dim() == 4:
                p.data = p.data.contiguous()
        recipe.refuse(reason)
        return
    inner = getattr(model, "module", model)
    inner.to(memory_format=torch.channels_last)
    model.register_forward_pre_hook(lambda _, values: _last(values), prepend=True)
    recipe.applied("memory_format", "contiguous", "channels_last", place())


def _dry_run(model: Any, inputs: Any) -> str:
    """A forward of a copy, which leaves random numbers and running statistics alone."""
    try:
        trial = copy.deepcopy(getattr(model, "module", model))
        trial.to(memory_format=torch.channels_last)
        with torch.random.fork_rng(), torch.no_grad():
            trial(*_last(inputs))
    except Exception as error:
        return f"a dry forward fails: {str(error).splitlines()[0][:100]}"
    return ""


def _last(values: Any) -> Any:
    return tuple(
        v.contiguous(memory_format=torch.channels_last)
        if isinstance(v, torch.Tensor) and v.dim() == 4
        else v
        for v in values
    )

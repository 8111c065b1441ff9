"""Step once for several batches: the other calls of step and zero_grad do nothing.

Gradients are averaged over the batches, and DDP exchanges them in the last one only.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import torch

from .applying import Applying, patch, place, sharded
from .steps import steps


class Accumulation:
    """Which batch of a step this rank is at."""

    def __init__(self, recipe: Applying) -> None:
        self.recipe = recipe
        self.batches = int(recipe.values["batches"])
        self.batch = 0  # batches whose backward is over
        self.backwards = 0
        self.optimizer: Any = None

    def step(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Step with the last batch only."""
        if self.recipe.refused:
            return original(*args, **kwargs)
        if self.backwards > 1 or args or kwargs.get("closure") is not None:
            closure = bool(args) or kwargs.get("closure") is not None
            self.recipe.refuse(
                "step takes a closure" if closure else "the script accumulates itself"
            )
            return original(*args, **kwargs)
        self.backwards = 0
        self.batch += 1
        if self.batch < self.batches:
            return None
        self.batch = 0
        grads = [p.grad for g in self.optimizer.param_groups for p in g["params"]]
        torch._foreach_div_([g for g in grads if g is not None], self.batches)
        return original(*args, **kwargs)

    def zero(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Keep the gradients within a step."""
        return None if self.batch and not self.recipe.refused else original(*args, **kwargs)

    def forward(self, ddp: Any) -> None:
        """A forward of DDP begins: exchange gradients in the step's last batch only."""
        if self.optimizer is not None and torch.is_grad_enabled():
            last = self.batch == self.batches - 1 or bool(self.recipe.refused)
            ddp.require_backward_grad_sync = last


def install(recipe: Applying) -> None:
    """Take the anchor after its first step, which warms up unchanged."""
    steps.install()
    state = Accumulation(recipe)

    def after_step(optimizer: Any) -> None:
        if state.optimizer is not None or recipe.refused:
            return
        is_sharded = sharded(steps.parameters())
        reason = "parameters are sharded (DTensor or FSDP)" if is_sharded else recipe.framework()
        if reason:
            recipe.refuse(reason)
            return
        state.optimizer = optimizer
        state.backwards = 0
        step, zero = optimizer.step, optimizer.zero_grad
        optimizer.step = functools.wraps(step)(lambda *a, **k: state.step(step, a, k))
        optimizer.zero_grad = functools.wraps(zero)(lambda *a, **k: state.zero(zero, a, k))
        recipe.applied("batches of a step", 1, state.batches, place())

    def wrap_backward(original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(*args: Any, **kwargs: Any) -> Any:
            state.backwards += 1
            return original(*args, **kwargs)

        return backward

    def wrap_forward(original: Callable[..., Any]) -> Callable[..., Any]:
        def pre_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            state.forward(self)
            return original(self, *args, **kwargs)

        return pre_forward

    patch(torch.Tensor, "backward", wrap_backward)
    patch(torch.nn.parallel.DistributedDataParallel, "_pre_forward", wrap_forward)
    steps.after.append(after_step)

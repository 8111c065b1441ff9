"""A loss scaler that the script does not see: its gradients always are unscaled ones.

Backward multiplies the loss by S and gradients that are there already with it, and divides all by
S afterwards. S is a power of two, so that nothing is rounded by it, and the results are those of an
explicit torch.amp.GradScaler, whose rules for S are followed: halved when a step overflows, which
is then skipped, and doubled after 2000 steps that did not.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import torch

from .applying import Applying, patch
from .steps import steps

GROWTH_INTERVAL = 2000


class Scaler:
    """The scale of one rank. All ranks see the same gradients when they step, so the same S."""

    def __init__(self, recipe: Applying, active: Callable[[], bool]) -> None:
        self.recipe = recipe
        self.active = active
        self.scale = float(recipe.values["scale"])
        self.good = 0
        self.skipped = 0
        self.inside = False

    def gradients(self) -> list[torch.Tensor]:
        """All gradients that optimizers own."""
        owned = (p for o in list(steps.optimizers) for g in o.param_groups for p in g["params"])
        return [p.grad for p in {id(p): p for p in owned}.values() if p.grad is not None]

    def backward(self, original: Callable[..., Any], loss: Any, args: Any, kwargs: Any) -> Any:
        """Scale, go back, unscale."""
        scale = self.scale
        have = self.gradients()
        if have:
            torch._foreach_mul_(have, scale)
        self.inside = True
        try:
            result = original(loss * scale, *args, **kwargs)
        finally:
            self.inside = False
            grads = self.gradients()
            if grads:
                torch._foreach_mul_(grads, 1.0 / scale)
        return result

    def step(self, original: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Step, or step without any gradient where one of them overflowed."""
        owned = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if all(bool(torch.isfinite(p.grad).all()) for p in owned if p.grad is not None):
            self.good += 1
            if self.good == GROWTH_INTERVAL:
                self.scale, self.good = self.scale * 2.0, 0
            return original(*args, **kwargs)
        kept = [(p, p.grad) for p in owned]
        for p in owned:
            p.grad = None
        try:
            return original(*args, **kwargs)
        finally:
            for p, grad in kept:
                p.grad = grad
            self.scale, self.good = self.scale / 2.0, 0
            self.skipped += 1
            self.recipe.applied("loss scale", self.scale * 2.0, self.scale)


def install(recipe: Applying, active: Callable[[], bool]) -> None:
    """Patch Tensor.backward; wrap the optimizers' steps when the first backward begins."""
    state = Scaler(recipe, active)
    wrapped: set[int] = set()

    def wrap_backward(original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not active() or torch.compiler.is_compiling() or state.inside:
                return original(self, *args, **kwargs)
            reason = _reason(self, args, kwargs)
            if reason:
                recipe.refuse(reason)
                return original(self, *args, **kwargs)
            for optimizer in list(steps.optimizers):
                if id(optimizer) not in wrapped:
                    wrapped.add(id(optimizer))
                    _wrap_step(state, optimizer)
            return state.backward(original, self, args, kwargs)

        return backward

    def wrap_grad(original: Callable[..., Any]) -> Callable[..., Any]:
        def grad(*args: Any, **kwargs: Any) -> Any:
            if active():
                recipe.refuse("the script takes gradients by torch.autograd.grad")
            return original(*args, **kwargs)

        return grad

    patch(torch.Tensor, "backward", wrap_backward)
    patch(torch.autograd, "grad", wrap_grad)


def _reason(loss: Any, args: Any, kwargs: Any) -> str:
    if loss.numel() != 1 or (args and args[0] is not None) or kwargs.get("gradient") is not None:
        return "backward does not begin at one number"
    if kwargs.get("create_graph"):
        return "the script differentiates twice (create_graph)"
    return ""


def _wrap_step(state: Scaler, optimizer: Any) -> None:
    """On the instance, so that the class's own wrappers (hooks, schedulers) see every call."""
    original = optimizer.step

    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        if not state.active():
            return original(*args, **kwargs)
        if args or kwargs.get("closure") is not None:
            state.recipe.refuse("the optimizer's step takes a closure")
            return original(*args, **kwargs)
        return state.step(original, optimizer, args, kwargs)

    optimizer.step = step

"""Backward passes (micro-batches) and the signs that a step holds an evaluation."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .patching import patch
from .tally import tally


def _backward(original: Callable[..., Any]) -> Callable[..., Any]:
    """Counts outermost calls; reentrant checkpointing runs a backward inside a backward."""

    def backward(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        if tally.backward_depth == 0:
            tally.backward_begins()
        tally.backward_depth += 1
        try:
            return original(*args, **kwargs)
        finally:
            tally.backward_depth -= 1

    return backward


def _train(original: Callable[..., Any]) -> Callable[..., Any]:
    """Module.train calls itself for every child: only the user's own call is a sign."""

    def train(self: Any, mode: bool = True) -> Any:
        if torch.compiler.is_compiling():
            return original(self, mode)
        if tally.switch_depth == 0:
            tally.module_switched(mode)
        tally.switch_depth += 1
        try:
            return original(self, mode)
        finally:
            tally.switch_depth -= 1

    return train


def _ddp_forward(original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        if not tally.start_ns:
            tally.started()
        if not torch.is_grad_enabled():
            tally.has_eval = True
        return original(self, *args, **kwargs)

    return forward


def install() -> None:
    """Patch backward passes, mode switches and DDP's forward."""
    patch(torch.autograd, "backward", _backward)
    patch(torch.nn.Module, "train", _train)
    patch(torch.nn.parallel.DistributedDataParallel, "forward", _ddp_forward)

"""The wrappers around calls that torch.compile may put into a graph.

Dynamo traces through these when it meets them inside a compiled region, so they must vanish there:
`is_compiling()` is a constant to dynamo, and what remains is the wrapped call. Everything else of
ours is skipped by dynamo (see compiler.py), which is why these live in a file of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import torch

from . import activation
from .tally import tally

Call = Callable[..., Any]


def optimizer_step(step: Call, outermost: Any) -> Call:
    """`step`, counted by `outermost`: its `depth` while open, its `stepped(optimizer)` after it."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return step(*args, **kwargs)
        outermost.depth += 1
        try:
            result = step(*args, **kwargs)
        finally:
            outermost.depth -= 1
        if outermost.depth == 0:
            try:
                outermost.stepped(args[0])
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"a step was not recorded: {error!r}")
        return result

    return counted


def backward(original: Call) -> Call:
    """Count outermost calls; reentrant checkpointing runs a backward inside a backward."""

    def counted_backward(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        if tally.backward_depth == 0:
            tally.backward_begins()
        tally.backward_depth += 1
        try:
            return original(*args, **kwargs)
        finally:
            tally.backward_depth -= 1

    return counted_backward


def module_train(original: Call) -> Call:
    """Module.train calls itself for every child: only the user's own call is a sign."""

    def noted_train(self: Any, mode: bool = True) -> Any:
        if torch.compiler.is_compiling():
            return original(self, mode)
        if tally.switch_depth == 0:
            tally.module_switched(mode)
        tally.switch_depth += 1
        try:
            return original(self, mode)
        finally:
            tally.switch_depth -= 1

    return noted_train


def ddp_forward(original: Call) -> Call:
    """A first forward starts step 0; one without gradients is an evaluation."""

    def noted_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            if not tally.start_ns:
                tally.started()
            if not torch.is_grad_enabled():
                tally.has_eval = True
        return original(self, *args, **kwargs)

    return noted_forward


def module_call(original: Call, names: Any) -> Call:
    """A module's call as a range of the trace: `names.begin(module)`, `names.end` of the result."""

    def named_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(self, *args, **kwargs)
        mark = names.begin(self)
        try:
            return original(self, *args, **kwargs)
        finally:
            names.end(mark)

    return named_call


def codes() -> list[CodeType]:
    """The code of the wrappers, for dynamo never to compile one of them by itself.

    Not that of `module_call`: inside a graph it is inlined, where it does nothing.
    """
    factories = (optimizer_step, backward, module_train, ddp_forward)
    return [c for f in factories for c in f.__code__.co_consts if isinstance(c, CodeType)]

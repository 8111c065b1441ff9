"""Optimizer steps as recipes count them: those of the first optimizer that steps.

Decisions rest on this counter alone, which is the same on all ranks; never on clocks.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from .applying import patch

Hook = Callable[[Any], None]


class Steps:
    """`done` steps so far; hooks get the anchor optimizer, before and after each of its steps."""

    def __init__(self) -> None:
        self.done = 0
        self.before: list[Hook] = []
        self.after: list[Hook] = []
        self.optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self.owned: set[int] = set()  # ids of parameters that some optimizer owns
        self._anchor: weakref.ref[Any] | None = None
        self._installed = False

    def install(self) -> None:
        """Start to count; only once."""
        if self._installed:
            return
        self._installed = True
        register_optimizer_step_pre_hook(self._pre)
        register_optimizer_step_post_hook(self._post)
        patch(torch.optim.Optimizer, "add_param_group", self._add_group)

    def parameters(self) -> list[torch.Tensor]:
        """The anchor's parameters that are trained."""
        optimizer = self._anchor() if self._anchor is not None else None
        if optimizer is None:
            return []
        return [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]

    def _add_group(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def add_param_group(optimizer: Any, group: Any) -> Any:
            result = original(optimizer, group)
            self.optimizers.add(optimizer)
            self.owned.update(id(p) for p in optimizer.param_groups[-1]["params"])
            return result

        return add_param_group

    def _pre(self, optimizer: Any, *_: Any) -> None:
        if self._anchor is None or self._anchor() is None:
            self._anchor = weakref.ref(optimizer)
        if self._anchor() is optimizer:
            for hook in list(self.before):
                hook(optimizer)

    def _post(self, optimizer: Any, *_: Any) -> None:
        if self._anchor is not None and self._anchor() is optimizer:
            self.done += 1
            for hook in list(self.after):
                hook(optimizer)


steps = Steps()

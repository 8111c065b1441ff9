"""DDP under accumulation: exchange gradients in the last backward of a step only.

Two optimizer steps are counted. If both had the same number k > 1 of forwards, on all ranks, then
from the next step on only the k-th exchanges. A step that ends otherwise is repaired before the
optimizer sees it: averaging what is the same on all ranks already changes nothing.
"""

from __future__ import annotations

from typing import Any, Callable

import torch

from .applying import Applying, agree, called_as, min_of, patch, place, sharded
from .steps import steps

LEARN_FROM, LEARN_TO = 1, 3


class NoSync:
    """The count of one rank."""

    def __init__(self, recipe: Applying) -> None:
        self.recipe = recipe
        self.forwards = 0
        self.learned: list[int] = []
        self.period = 0  # 0: not active
        self.ddp: Any = None
        self.reason = ""
        self.where: Any = None
        self.name = ""

    def forward(self, ddp: Any) -> None:
        """A forward of a DDP module begins."""
        if not torch.is_grad_enabled() or self.recipe.refused:
            return
        if self.ddp is None:
            self.ddp, self.where, self.name = ddp, place(), called_as(ddp)
        if ddp is not self.ddp:
            self.reason = self.reason or "the script has several DDP modules"
            return
        self.forwards += 1
        if self.period:
            ddp.require_backward_grad_sync = self.forwards == self.period

    def before_step(self, _: Any) -> None:
        """Repair a step that did not have as many forwards as learned."""
        if not self.period or self.forwards == self.period:
            return
        import torch.distributed as dist

        world = dist.get_world_size(self.ddp.process_group)
        for p in self.ddp.parameters():
            if p.grad is not None:
                dist.all_reduce(p.grad, group=self.ddp.process_group)
                p.grad.div_(world)

    def after_step(self, _: Any) -> None:
        """Count, then decide, with all other ranks, once."""
        if LEARN_FROM < steps.done <= LEARN_TO:
            self.learned.append(self.forwards)
        self.forwards = 0
        if steps.done == LEARN_TO and not self.recipe.refused and self.ddp is not None:
            self.decide()
        elif steps.done == LEARN_TO and self.ddp is None:
            self.recipe.refuse("the script uses no DistributedDataParallel")

    def decide(self) -> None:
        """Go on only where every rank counted the same, twice."""
        count = self.learned[-1]
        reason = self.reason or self.fault(count)
        if not agree(not reason, self.ddp.process_group):
            self.recipe.refuse(reason or "another rank refused")
            return
        group = self.ddp.process_group
        if min_of(count, group) != -min_of(-count, group):
            self.recipe.refuse("ranks have different numbers of backward passes in a step")
            return
        self.period = count
        self.recipe.applied("gradient exchanges in a step", count, 1, self.where, self.name)

    def fault(self, count: int) -> str:
        """What speaks against it on this rank; "" if nothing does."""
        if self.recipe.framework():
            return self.recipe.framework()
        if len(set(self.learned)) > 1:
            return "the number of backward passes changes from step to step"
        if count < 2:
            return "a step has one backward pass: nothing is exchanged in vain"
        if getattr(self.ddp, "_comm_hooks", None):
            return "a communication hook is registered: it may count exchanges"
        if sharded(self.ddp.parameters()):
            return "parameters are sharded (DTensor or FSDP)"
        return ""


def install(recipe: Applying) -> None:
    """Patch DDP's forward and its no_sync."""
    steps.install()
    state = NoSync(recipe)
    ddp = torch.nn.parallel.DistributedDataParallel

    def wrap_forward(original: Callable[..., Any]) -> Callable[..., Any]:
        def pre_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling():
                state.forward(self)
            return original(self, *args, **kwargs)

        return pre_forward

    def wrap_no_sync(original: Callable[..., Any]) -> Callable[..., Any]:
        def no_sync(self: Any) -> Any:
            if not state.period:
                state.reason = "the script uses no_sync itself"
            return original(self)

        return no_sync

    patch(ddp, "_pre_forward", wrap_forward)
    patch(ddp, "no_sync", wrap_no_sync)
    steps.before.append(state.before_step)
    steps.after.append(state.after_step)

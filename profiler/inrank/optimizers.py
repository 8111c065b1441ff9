"""Where a step ends: the return of the anchor optimizer's step.

The anchor is the first optimizer that steps. Torch wraps the `step` of every Optimizer class with
`Optimizer.profile_hook_step`; ours goes around that, so that the boundary lies after torch's own
`Optimizer.step#` range has closed.

A program whose optimizer step is inside a compiled graph, or that has no `torch.optim` optimizer
at all, never returns from one. There a step is a batch: it ends where the next one is fetched.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Callable

import torch

from . import activation, traced
from .patching import patch
from .rank import Rank
from .tally import tally

ABANDONED_AFTER = 32  # steps in a row of one other optimizer: the anchor is not used any more


class Anchor:
    """The optimizer whose steps count, and how deep we are inside of an optimizer's step."""

    def __init__(self) -> None:
        self.depth = 0
        self.calls = 0  # outermost steps of any optimizer
        self.explicit = False  # perfkit.step() ends the steps, not the optimizer
        self._built: weakref.ref[Any] | None = None  # the first optimizer built
        self._version = -1  # of its first parameter: counts the updates in place
        self._anchor: weakref.ref[Any] | None = None
        self._rival: weakref.ref[Any] | None = None
        self._rival_steps = 0

    def stepped(self, optimizer: Any) -> None:
        """`optimizer` has returned from an outermost step."""
        self.calls += 1
        if self.explicit:
            return
        is_anchor = self._anchor is not None and self._anchor() is optimizer
        if not is_anchor and not self._takes_over(optimizer):
            return
        self._rival_steps = 0
        rank = activation.activate("optimizer")
        if rank is not None:
            if rank.source == "dataloader":
                self._leave_batches(rank)
            rank.boundary("optimizer")

    def fetch_begins(self) -> None:
        """A batch is about to be fetched, and no optimizer has returned from a step so far."""
        stepped = self._updated_unseen()
        if self.explicit or not stepped or not tally.backwards:
            return
        rank = activation.activate("dataloader")
        if rank is not None:
            if rank.step == 0:
                rank.warn("no optimizer step is visible: a step is a batch; see perfkit.step()")
            rank.boundary("dataloader")

    def built(self, optimizer: Any) -> None:
        """`optimizer` is being constructed."""
        if self._built is None:
            self._built = weakref.ref(optimizer)

    def _updated_unseen(self) -> bool:
        """Whether parameters have changed since the last fetch; True without any optimizer."""
        optimizer = self._built() if self._built is not None else None
        if optimizer is None:
            return True
        parameters = [p for group in optimizer.param_groups[:1] for p in group["params"][:1]]
        before, self._version = self._version, sum(p._version for p in parameters)
        return before not in (-1, self._version)

    def _leave_batches(self, rank: Rank) -> None:
        rank.warn(f"steps before {rank.step} are batches; from here on they are optimizer steps")
        rank.source = "optimizer"
        rank.learn(step_source="optimizer")

    def _takes_over(self, optimizer: Any) -> bool:
        if self._anchor is not None and self._anchor() is not None:
            known = self._rival is not None and self._rival() is optimizer
            self._rival_steps = self._rival_steps + 1 if known else 1
            self._rival = weakref.ref(optimizer)
            if self._rival_steps < ABANDONED_AFTER:
                return False
        self._anchor = weakref.ref(optimizer)
        self._describe(optimizer)
        return True

    def _describe(self, optimizer: Any) -> None:
        from . import facts

        rank = activation.activate("optimizer")
        if rank is None:
            return
        known = dict(facts.optimizer_facts(optimizer))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if parameters and parameters[0].device.type != "cpu":
            known.update(facts.device_facts())
        if "model" not in rank.facts.known:
            known["model"] = facts.size_facts(parameters)
        rank.learn(**known)


anchor = Anchor()


def _profile_hook_step(original: Callable[..., Any]) -> Callable[..., Any]:
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        hooked = original(func)
        return functools.wraps(hooked)(traced.optimizer_step(hooked, anchor))

    return profile_hook_step


def _maybe_opt_step(original: Callable[..., Any]) -> Callable[..., Any]:
    """GradScaler skips the step when gradients overflow; the iteration still is a step."""

    def maybe_opt_step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        calls = anchor.calls
        result = original(self, optimizer, *args, **kwargs)
        if anchor.calls == calls and anchor.depth == 0:
            try:
                anchor.stepped(optimizer)
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"a skipped step was not recorded: {error!r}")
        return result

    return maybe_opt_step


def _patch_step_function(original: Callable[..., Any]) -> Callable[..., Any]:
    def patch_step_function(self: Any) -> None:
        anchor.built(self)
        original(self)

    return patch_step_function


def install() -> None:
    """Patch before any Optimizer exists: classes are wrapped when first instantiated."""
    patch(torch.optim.Optimizer, "profile_hook_step", _profile_hook_step)
    patch(torch.optim.Optimizer, "_patch_step_function", _patch_step_function)
    scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
    if scaler is not None:
        patch(scaler, "_maybe_opt_step", _maybe_opt_step)


def reset() -> None:
    """Forget the anchor: in the child after a fork."""
    anchor.__init__()  # type: ignore[misc]
    tally.__init__()  # type: ignore[misc]

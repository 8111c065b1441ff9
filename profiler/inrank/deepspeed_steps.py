"""DeepSpeed: a step is one model step of the engine, at the accumulation boundary.

Its ZeRO optimizers step the program's own optimizer underneath, ZeRO 3 once for every sub-group of
parameters: counted there, one step would be many.
"""

from __future__ import annotations

from typing import Any, Callable

from . import activation
from .optimizers import anchor
from .patching import patch

ENGINE = "deepspeed.runtime.engine"


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Patch the engine's class once its module has been imported."""
    waiting[ENGINE] = _patch_engine


def _patch_engine(module: Any) -> None:
    patch(module.DeepSpeedEngine, "_take_model_step", _model_step)


def _model_step(original: Callable[..., Any]) -> Callable[..., Any]:
    """What the engine, or its pipeline kind, calls once all micro-batches have been added up."""

    def take_model_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        anchor.depth += 1
        try:
            result = original(self, *args, **kwargs)
        finally:
            anchor.depth -= 1
        if anchor.depth == 0:
            try:
                anchor.stepped(getattr(self, "basic_optimizer", None) or self.optimizer)
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"a step was not recorded: {error!r}")
        return result

    return take_model_step

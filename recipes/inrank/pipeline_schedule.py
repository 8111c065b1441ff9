"""Another schedule of torch.distributed.pipelining, among those with one stage a rank."""

from __future__ import annotations

from typing import Any, Callable

from .applying import Applying, place

NAMES = ("ScheduleGPipe", "Schedule1F1B")


def install(recipe: Applying) -> None:
    """Replace the classes by a constructor that makes the other one."""
    wanted = str(recipe.values["schedule"])
    if wanted not in NAMES:
        recipe.refuse(f"{wanted} needs other stages; known here: {', '.join(NAMES)}")
        return
    try:
        from torch.distributed import pipelining
        from torch.distributed.pipelining import schedules
    except ImportError:
        recipe.refuse("this torch has no torch.distributed.pipelining")
        return
    other = next(name for name in NAMES if name != wanted)
    original, target = getattr(schedules, other), getattr(schedules, wanted)
    made = _maker(recipe, original, target)
    for module in (pipelining, schedules):
        setattr(module, other, made)


def _maker(recipe: Applying, original: Any, target: Any) -> Callable[..., Any]:
    def make(stage: Any, n_microbatches: int, *args: Any, **kwargs: Any) -> Any:
        if n_microbatches < stage.num_stages:
            recipe.refuse(
                f"{n_microbatches} micro-batches are fewer than {stage.num_stages} stages"
            )
            return original(stage, n_microbatches, *args, **kwargs)
        schedule = target(stage, n_microbatches, *args, **kwargs)
        recipe.applied("schedule", original.__name__, target.__name__, place())
        return schedule

    return make

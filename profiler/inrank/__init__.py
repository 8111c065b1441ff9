"""What runs inside each process of the user's: hooks on torch, and the record of a rank.

Loaded under the name `_perfkit_inrank` by boot/sitecustomize.py once torch has been imported,
from whatever directory perfkit lies in: perfkit itself need not be installed where the training
runs. Standard library, torch and in-rank code only; Python 3.9 and torch 2.3 upwards.
"""

from __future__ import annotations

from typing import Any, Callable


def start(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Install all hooks. `waiting` maps modules not yet imported to what to do once they are."""
    from . import (
        checkpoints,
        compiler,
        deepspeed_steps,
        distributed,
        faults,
        forks,
        horovod_calls,
        inputs,
        modules,
        no_sync,
        numerics,
        optimizers,
        own_traces,
        passes,
        pauses,
        recipes,
        rivals,
    )

    optimizers.install()
    inputs.install()
    passes.install()
    modules.install()
    faults.install()
    no_sync.install()
    distributed.install()
    rivals.install()
    own_traces.install()
    checkpoints.install(waiting)
    pauses.install(waiting)
    compiler.install(waiting)
    deepspeed_steps.install(waiting)
    horovod_calls.install(waiting)
    forks.install()
    recipes.install()
    numerics.install(waiting)  # outermost: sees the loss as the program wrote it


def step() -> None:
    """End the running step here (perfkit.step)."""
    from . import regions

    regions.step()


def region(name: str) -> Any:
    """A span named by the user (perfkit.region)."""
    from . import regions

    return regions.Region(name)

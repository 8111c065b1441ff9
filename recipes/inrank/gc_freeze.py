"""After a few steps: freeze what lives, and collect what is new more rarely."""

from __future__ import annotations

import gc
from typing import Any

from .applying import Applying
from .steps import steps

AT_STEP = 3


def install(recipe: Applying) -> None:
    """Act once, after the first steps have made what lives for ever."""
    default = gc.get_threshold()

    def after_step(_: Any) -> None:
        if steps.done != AT_STEP:
            return
        if not gc.isenabled():
            recipe.refuse("the script turned garbage collection off itself")
        elif gc.get_freeze_count() or gc.get_threshold() != default:
            recipe.refuse("the script froze objects or set a threshold itself")
        else:
            gc.collect()
            gc.freeze()
            gc.set_threshold(int(recipe.values["threshold"]), 20, 100)
            recipe.applied("gc.threshold", list(default), list(gc.get_threshold()))

    steps.install()
    steps.after.append(after_step)

"""As many threads as this rank has processors, and processors of its own if asked for."""

from __future__ import annotations

import os

import torch

from .applying import Applying


def install(recipe: Applying) -> None:
    """Act at once: the parent has made sure that the user has not set OMP_NUM_THREADS."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if not ranks:
        return  # torchrun's own process, or a program that says nothing of its ranks
    processors = sorted(os.sched_getaffinity(0))
    fair = max(len(processors) // ranks, 1)
    wanted = int(recipe.values["threads"]) or fair
    old = torch.get_num_threads()
    if wanted > fair:
        recipe.refuse(
            f"{wanted} threads for {ranks} ranks are more than {len(processors)} processors"
        )
        return
    if wanted == old and not recipe.values["pin"]:
        recipe.refuse(f"this rank has its {old} threads already")
        return
    if recipe.values["pin"]:
        first = int(os.environ.get("LOCAL_RANK", "0")) * fair
        mine = processors[first : first + fair]
        os.sched_setaffinity(0, mine)
        recipe.applied("processors", processors, mine)
    torch.set_num_threads(wanted)
    recipe.applied("threads", old, wanted)

"""Makes and starts the profiler of a window."""

from __future__ import annotations

import os
from typing import Any

import torch

from .capture import Detail
from .facts import uses_cuda

LOG_LEVEL = "KINETO_LOG_LEVEL"


def start_quietly(profile: Any) -> None:
    """Start a profiler without the USDT lines that torch 2.13 writes to stderr.

    Kineto reads its log level once, when first used; the program's environment is left as it was.
    """
    ours = LOG_LEVEL not in os.environ
    if ours:
        os.environ[LOG_LEVEL] = "99"
    try:
        profile.start()
    finally:
        if ours:
            del os.environ[LOG_LEVEL]


def make_profile(detail: Detail) -> tuple[Any, bool]:
    """A profiler with our settings, and whether any thread may stop it.

    One that any thread may stop records no allocations (torch 2.13), so that with `memory` only
    the training thread can stop it.
    """
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if uses_cuda():
        activities.append(ProfilerActivity.CUDA)
    options: Any = {
        "activities": activities,
        "record_shapes": True,
        "with_stack": detail.with_stack,
        "with_modules": detail.with_stack,
        "profile_memory": detail.memory,
    }
    if detail.memory:
        return profile(**options), False
    try:
        config = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    except (AttributeError, TypeError):  # private, and absent from older releases
        return profile(**options), False
    return profile(experimental_config=config, **options), True

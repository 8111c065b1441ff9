"""Makes and starts the profiler of a window."""

from __future__ import annotations

import os
from contextlib import suppress
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
    config = None if detail.memory else _config(detail)
    if config is None:
        return profile(**options), False
    return profile(experimental_config=config, **options), True


def _config(detail: Detail) -> Any:
    """Private settings of torch, as good as this release has them; None where it has none.

    `trace_only`: the same file, without the objects of `events()`, which take longer to free than
    the file takes to write. Stacks need them.
    """
    wished: list[dict[str, Any]] = [{"profile_all_threads": True}]
    if not detail.with_stack:
        wished.insert(0, {"profile_all_threads": True, "trace_only": True})
    for settings in wished:
        with suppress(AttributeError, TypeError):
            return torch._C._profiler._ExperimentalConfig(**settings)
    return None


def release(profile: Any) -> None:
    """Free what a stopped profiler has recorded, now.

    It is in a cycle of references: a collection of garbage would free it within a later step.
    """
    inner = getattr(profile, "profiler", None)
    if inner is not None:
        inner.kineto_results = None

"""Horovod: ranges around its waits, which torch's profiler does not see.

Its DistributedOptimizer is a subclass made at run time of the program's own optimizer class: it
counts steps like any other. Made from the interface of release 0.28.1 and tested against that.
"""

from __future__ import annotations

from typing import Any, Callable

from . import ranges
from .patching import patch

CALLS = "horovod.torch.mpi_ops"
STARTERS = ("allreduce", "allgather", "broadcast", "alltoall", "reducescatter")
MOST_OPEN = 100_000  # handles that nobody waits for are forgotten


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Patch its calls before the rest of Horovod takes them from their module.

    Horovod imports torch (in its `compression`) before that module, so that this is in time.
    """
    waiting[CALLS] = _patch_calls


def _patch_calls(module: Any) -> None:
    started: dict[Any, str] = {}
    for operation in STARTERS:
        for name in (f"{operation}_async", f"{operation}_async_"):
            for prefix in ("", "grouped_"):
                patch(module, prefix + name, _noting(operation, started))
    patch(module, "synchronize", _waiting(started))


def _noting(operation: str, started: dict[Any, str]) -> Callable[..., Any]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def start(*args: Any, **kwargs: Any) -> Any:
            handle = original(*args, **kwargs)
            if ranges.state.recording and len(started) < MOST_OPEN:
                started[handle] = operation
            return handle

        return start

    return wrap


def _waiting(started: dict[Any, str]) -> Callable[..., Any]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def synchronize(handle: Any, *args: Any, **kwargs: Any) -> Any:
            mark = ranges.begin(f"horovod:{started.pop(handle, 'synchronize')}")
            try:
                return original(handle, *args, **kwargs)
            finally:
                ranges.end(mark)

        return synchronize

    return wrap

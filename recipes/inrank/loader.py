"""DataLoaders with workers, or with pinned memory, where the script chose neither."""

from __future__ import annotations

import inspect
import os
import pickle
import threading
from typing import Any, Callable

import torch

from .applying import Applying, patch, place

LEAST_SHM_BYTES = 64 << 20
MOST_WORKERS = 4


def install(recipe: Applying) -> None:
    """Patch the constructor; with workers also what starts an epoch."""
    from torch.utils.data import DataLoader

    if recipe.name == "pin-memory":
        patch(DataLoader, "__init__", lambda original: _pinning(recipe, original))
        return
    patch(DataLoader, "__init__", lambda original: _with_workers(recipe, original))
    patch(DataLoader, "__iter__", _epoch)


def _pinning(recipe: Applying, original: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(original).bind(self, *args, **kwargs).arguments
        if recipe.framework():
            recipe.refuse(recipe.framework())
        elif not torch.cuda.is_available():
            recipe.refuse("no CUDA device is in use")
        elif given.get("pin_memory"):
            recipe.refuse("the script sets pin_memory itself")
        elif "pin_memory" not in given:
            kwargs["pin_memory"] = True
            recipe.applied("pin_memory", False, True, place())
        original(self, *args, **kwargs)

    return init


def _with_workers(recipe: Applying, original: Callable[..., Any]) -> Callable[..., Any]:
    names = list(inspect.signature(original).parameters)
    ours: set[tuple[int, int]] = set()  # datasets by id, with the workers that they were given

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(original).bind(self, *args, **kwargs).arguments
        if (id(given["dataset"]), given.get("num_workers")) in ours:  # a framework's copy of ours
            original(self, *args, **kwargs)
            return
        reason = recipe.framework() or _reason(given)
        if reason or recipe.refused:
            recipe.refuse(reason)
            original(self, *args, **kwargs)
            return
        workers = _workers(recipe, given["dataset"])
        ours.add((id(given["dataset"]), workers))
        if "num_workers" in given and "num_workers" not in kwargs:  # by position
            at = names.index("num_workers") - 1
            args = (*args[:at], workers, *args[at + 1 :])
        else:
            kwargs["num_workers"] = workers
        kwargs["persistent_workers"] = True
        kwargs["prefetch_factor"] = int(recipe.values["prefetch"])
        original(self, *args, **kwargs)
        self._perfkit_persistent = True
        recipe.applied("num_workers", given.get("num_workers", 0), workers, place())

    return init


def _workers(recipe: Applying, dataset: Any) -> int:
    from torch.utils.data import IterableDataset

    if isinstance(dataset, IterableDataset):
        return 1  # more would yield every sample once a worker
    asked = int(recipe.values["workers"])
    if asked:
        return asked
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    processors = len(os.sched_getaffinity(0))
    return max(min(processors // ranks - 1, MOST_WORKERS), 1)


def _reason(given: dict[str, Any]) -> str:
    """Why workers would be wrong here; "" if nothing speaks against them."""
    if given.get("num_workers"):
        return f"the script chose num_workers={given['num_workers']} itself"
    for name in ("worker_init_fn", "multiprocessing_context", "prefetch_factor"):
        if given.get(name) is not None:
            return f"the script sets {name} itself"
    held = list(getattr(given["dataset"], "__dict__", {}).values())
    if any(isinstance(v, torch.Tensor) and v.device.type != "cpu" for v in held):
        return "the dataset holds tensors on a device"
    locks = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    if any(isinstance(v, locks) for v in held):
        return "the dataset holds a lock"
    if _shm_free() < LEAST_SHM_BYTES:
        return "there is too little shared memory (/dev/shm)"
    return "" if _can_be_sent(given["dataset"]) else "the dataset cannot be pickled"


def _shm_free() -> int:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return LEAST_SHM_BYTES
    return found.f_bavail * found.f_frsize


def _can_be_sent(dataset: Any) -> bool:
    import multiprocessing

    if multiprocessing.get_start_method(allow_none=True) in (None, "fork") and os.name == "posix":
        import sys

        if sys.version_info < (3, 14) or multiprocessing.get_start_method() == "fork":
            return True
    try:
        pickle.dumps(dataset)
    except Exception:
        return False
    return True


def _epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    """A loader without workers draws a seed for each epoch; one that keeps its workers does not.

    The draw is made up for, so that the script's own random numbers stay the same.
    """

    def epoch(self: Any) -> Any:
        if getattr(self, "_perfkit_persistent", False) and self._iterator is not None:
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return original(self)

    return epoch

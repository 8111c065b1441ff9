"""Calls that return a handle, and the wait for it."""

import itertools
import os
import threading
from typing import Any

import torch

_numbers = itertools.count()
_handle_map: dict[int, tuple[threading.Event, torch.Tensor]] = {}
_state = {"initialized": False}


def init() -> None:
    _state["initialized"] = True


def is_initialized() -> bool:
    return _state["initialized"]


def rank() -> int:
    return int(os.environ["HOROVOD_RANK"])


def size() -> int:
    return int(os.environ["HOROVOD_SIZE"])


def local_rank() -> int:
    return int(os.environ["HOROVOD_LOCAL_RANK"])


def allreduce_async_(tensor: torch.Tensor, name: str | None = None, **options: Any) -> int:
    handle = next(_numbers)
    done = threading.Event()
    _handle_map[handle] = (done, tensor)
    threading.Timer(0.002, done.set).start()
    return handle


def synchronize(handle: int) -> torch.Tensor | None:
    if handle not in _handle_map:
        return None
    done, output = _handle_map.pop(handle)
    done.wait()
    return output

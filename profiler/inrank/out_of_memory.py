"""When a device's memory runs out: what the allocator held then, before the program ends.

The snapshot opens at pytorch.org/memory_viz. An exception is told to be one of memory by its type
or by the words of torch's allocators.
"""

from __future__ import annotations

import os
import pickle
from typing import Any, Protocol

import torch

MOST_SNAPSHOTS = 2  # a program that lowers its batch until it fits makes many
ATTACH = "_cuda_attach_out_of_memory_observer"  # private to torch; absent from CPU builds
WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


class Recording(Protocol):
    """What is needed of a rank."""

    folder: str
    step: int
    stream: Any

    def warn(self, text: str) -> None:
        """Record a failure of ours."""


def is_out_of_memory(value: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(value, MemoryError) or type(value).__name__ == "OutOfMemoryError":
        return True
    text = str(value).lower()
    return isinstance(value, (RuntimeError, OSError)) and any(word in text for word in WORDS)


class Snapshots:
    """Told by the caching allocator, before it raises."""

    def __init__(self, rank: Recording) -> None:
        self.rank = rank
        self.taken = 0

    def __call__(self, device: int, asked: int, held: int, free: int) -> None:
        """Memory ran out on `device`: `asked` bytes more than fit; the device has `free`."""
        self.taken += 1
        if self.taken > MOST_SNAPSHOTS:
            return
        try:
            name = f"oom-{self.taken}.pickle"
            with open(os.path.join(self.rank.folder, name), "wb") as file:
                pickle.dump(torch.cuda.memory._snapshot(), file)
            self.rank.stream.record(
                "oom", i=self.rank.step, device=device, asked=asked, free=free, file=name
            )
        except Exception as error:  # the program's own error is what counts
            self.rank.warn(f"no snapshot of the allocator: {error!r}")


def watch(rank: Recording) -> None:
    """Be told by the allocator of this process, where torch offers that."""
    attach = getattr(torch._C, ATTACH, None)
    if attach is not None:
        attach(Snapshots(rank))

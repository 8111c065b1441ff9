"""Measure reading from storage at a loader's block size, past the page cache where possible."""

import contextlib
import errno
import mmap
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfkit import units

SEQUENTIAL_BLOCK = 1 << 20
RANDOM_BLOCK = 128 << 10  # about one compressed image
QUICK_BYTES = 128 << 20
FULL_BYTES = 1 << 30


def reads(folder: Path, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Sequential and random read bandwidth of a scratch file in that folder; median of rounds."""
    size = QUICK_BYTES if quick else FULL_BYTES
    with _scratch_file(folder, size) as path:
        direct, handle = _open(path)
        try:
            for quantity, block, order in (
                ("storage_sequential", SEQUENTIAL_BLOCK, "in order"),
                ("storage_random", RANDOM_BLOCK, "in random order"),
            ):
                offsets = list(range(0, size, block))
                if quantity == "storage_random":
                    random.Random(0).shuffle(offsets)
                    offsets = offsets[: len(offsets) // 4]
                rounds = [_round(handle, offsets, block, direct=direct) for _ in range(3)]
                how = "O_DIRECT" if direct else "page cache dropped by fadvise"
                yield {
                    "quantity": quantity,
                    "value": statistics.median(rounds),
                    "unit": "bytes/s",
                    "method": f"one thread, blocks of {units.size(block)} {order}, {how}",
                    "samples": len(rounds),
                }
        finally:
            os.close(handle)


@contextlib.contextmanager
def _scratch_file(folder: Path, size: int) -> Iterator[Path]:
    block = os.urandom(SEQUENTIAL_BLOCK)  # incompressible: some file systems compress
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".perfkit-ceilings-") as file:
        for _ in range(0, size, len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        yield Path(file.name)


def _open(path: Path) -> tuple[bool, int]:
    """Whether reads bypass the page cache, and the descriptor."""
    try:
        return True, os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:  # tmpfs and some network file systems know no O_DIRECT
            raise
        return False, os.open(path, os.O_RDONLY)


def _round(handle: int, offsets: list[int], block: int, *, direct: bool) -> float:
    """Bytes per second over these offsets. A mapping is page-aligned, as O_DIRECT demands."""
    if not direct:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    with mmap.mmap(-1, block) as buffer:
        begin = time.perf_counter()
        for offset in offsets:
            os.preadv(handle, [buffer], offset)
        return len(offsets) * block / (time.perf_counter() - begin)

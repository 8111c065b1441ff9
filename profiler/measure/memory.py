"""Measure memory: copy and triad far beyond the caches, copy by working set, host to device."""

import os
from collections.abc import Iterator
from typing import Any

import torch

from perfkit import units
from perfkit.profiler.measure.timing import Device, Effort, Taken, take

LARGE_BYTES = 1 << 30
QUICK_BYTES = 256 << 20
PINNED_BYTES = 256 << 20
SMALLEST_SET = 64 << 10
SWEEP_S = 2e-3
HOST_RATE, DEVICE_RATE = 20e9, 4e12
"""Roughly what caches copy per second, for the number of copies in a sample."""
SMALLEST_ON_DEVICE = 1 << 20
"""Launching takes longer than copying less; what copies more stands for it (`Roofs.cached`)."""
MOST_CALLS = 1000


def _large(device: torch.device, *, quick: bool) -> int:
    """Bytes of one array: 1 GiB where memory allows, at least eight caches when quick."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 0
        size = min(LARGE_BYTES, free // 8)
        if size < 8 * cache:
            raise RuntimeError(f"only {free >> 20} MiB of the device's memory are free")
        return size
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(QUICK_BYTES if quick else LARGE_BYTES, pages // 8)


def streams(device: Device, effort: Effort, *, quick: bool) -> Iterator[dict[str, Any]]:
    """STREAM's copy (two arrays move) and triad (three)."""
    elements = _large(device.torch_device, quick=quick) // 4
    a, b, c = (torch.rand(elements, device=device.torch_device) for _ in range(3))
    size = a.numel() * a.element_size()
    copied = take(device, lambda: a.copy_(b), effort)
    yield _bandwidth("copy", 2 * size, copied, f"copy_ of {units.size(size)}, read plus written")
    added = take(device, lambda: torch.add(b, c, alpha=2.0, out=a), effort)
    yield _bandwidth("triad", 3 * size, added, f"a = b + 2 c over arrays of {units.size(size)}")


def _bandwidth(quantity: str, moved: int, taken: Taken, method: str) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "value": moved / taken.median_s,
        "unit": "bytes/s",
        "method": method,
        **taken.facts,
    }


def copy_by_working_set(device: Device, effort: Effort, largest: int) -> Iterator[dict[str, Any]]:
    """Copy bandwidth for working sets (source and target together) from 64 KiB, doubling.

    Nothing is flushed in between: this is what an operator meets whose inputs are still cached.
    The fastest repeat counts, as in STREAM: it stands for what the cache can do. On a device it
    starts at 1 MiB.
    """
    size = SMALLEST_ON_DEVICE if device.torch_device.type == "cuda" else SMALLEST_SET
    while size <= largest:
        yield _cached_copy(device, effort, size)
        size *= 2


def _cached_copy(device: Device, effort: Effort, working_set: int) -> dict[str, Any]:
    source = torch.rand(working_set // 8, device=device.torch_device)
    target = torch.empty_like(source)
    rate = DEVICE_RATE if device.torch_device.type == "cuda" else HOST_RATE
    calls = min(MOST_CALLS, max(1, int(SWEEP_S * rate / working_set)))

    def many() -> None:
        for _ in range(calls):
            target.copy_(source)

    taken = take(device, many, effort, cold=False)
    return {
        "working_set_bytes": working_set,
        "bytes_per_s": calls * working_set / min(taken.seconds),
    }


def host_links(device: Device, effort: Effort) -> Iterator[dict[str, Any]]:
    """Pinned copies between host and device, both directions."""
    if device.torch_device.type != "cuda":
        return
    host = torch.empty(PINNED_BYTES, dtype=torch.int8, pin_memory=True)
    there = torch.empty(PINNED_BYTES, dtype=torch.int8, device=device.torch_device)
    method = f"pinned copy of {units.size(PINNED_BYTES)}"
    up = take(device, lambda: there.copy_(host, non_blocking=True), effort)
    yield _bandwidth("h2d", PINNED_BYTES, up, method)
    down = take(device, lambda: host.copy_(there, non_blocking=True), effort)
    yield _bandwidth("d2h", PINNED_BYTES, down, method)

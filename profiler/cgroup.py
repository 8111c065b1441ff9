"""What the control group of this process allows: processor time and memory (cgroups v1 and v2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED_BYTES = 1 << 60
"""cgroups v1 writes the largest number of whole pages where there is no limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest limits over the group and those above it; None: no limit."""

    processors: float | None = None
    memory_bytes: int | None = None


def limits(
    mount: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")
) -> Limits:
    """Return the limits that hold for this process, as far as they can be read."""
    cpus: list[float] = []
    memory: list[int] = []
    for folder in _folders(mount, groups):
        quota, period = _numbers(folder / "cpu.max") or _old_quota(folder)
        if quota > 0 and period > 0:
            cpus.append(quota / period)
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory += [n for n in _numbers(folder / name, 1) if 0 < n < UNLIMITED_BYTES]
    return Limits(min(cpus, default=None), min(memory, default=None))


def _folders(mount: Path, groups: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, and of the groups above them."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        top = mount / controllers if controllers else mount
        folder = top / path.strip("/")
        while folder.is_relative_to(top):
            yield folder
            folder = folder.parent


def _old_quota(folder: Path) -> tuple[int, int]:
    """Return quota and period of cgroups v1; (0, 0) where there is none."""
    quota = _numbers(folder / "cpu.cfs_quota_us", 1)
    period = _numbers(folder / "cpu.cfs_period_us", 1)
    return (quota[0], period[0]) if quota and period else (0, 0)


def _numbers(file: Path, count: int = 2) -> tuple[int, ...]:
    """Return the numbers of a file, () where they are missing or the word is `max`."""
    try:
        found = tuple(map(int, file.read_text().split()))
    except (OSError, ValueError):
        return ()
    return found if len(found) == count else ()

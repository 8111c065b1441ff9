"""What runs leave behind in the folder in which they were started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 20_000
"""A larger folder is not watched: looking through it would cost more than it tells."""
NOT_WATCHED = frozenset({".git", ".venv", "__pycache__", "node_modules", "perfkit-runs"})

Files = Mapping[str, tuple[int, int]]
"""Path relative to the folder -> time of change in ns, size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEffects:
    """Files that runs made, changed or removed; None where the folder is too large to watch."""

    made: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def files_of(folder: Path, without: Path) -> Files | None:
    """Return the files below `folder`, leaving out what lies in `without`; None if too many."""
    found: dict[str, tuple[int, int]] = {}
    skipped = str(without.absolute())
    for here, folders, names in os.walk(folder):
        folders[:] = [
            f
            for f in folders
            if f not in NOT_WATCHED and os.path.abspath(os.path.join(here, f)) != skipped
        ]
        for name in names:
            path = os.path.join(here, name)
            try:
                facts = os.lstat(path)
            except OSError:
                continue
            found[os.path.relpath(path, folder)] = (facts.st_mtime_ns, facts.st_size)
        if len(found) > MOST_FILES:
            return None
    return found


def compare(before: Files | None, after: Files | None) -> SideEffects | None:
    """Return what has changed between two looks; None if one of them could not be taken."""
    if before is None or after is None:
        return None
    return SideEffects(
        made=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(p for p in after.keys() & before.keys() if after[p] != before[p])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )

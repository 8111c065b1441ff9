"""What the user's arguments name, as files and folders on this machine.

Patterns are expanded, URLs fetched, archives unpacked and Nsight reports exported into a folder of
the user's cache, one entry each, so that a second look at the same input is quick.
"""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.nsys_report import REPORT_SUFFIXES, exported


def user_cache() -> Path:
    """Return the user's cache folder of perfkit, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "perfkit"


def local_paths(given: Sequence[Path | str], cache: Path) -> list[Path]:
    """Return the files and folders that the arguments name, in order, each once.

    Raises InputError for one that names nothing or cannot be brought here.
    """
    found: dict[Path, None] = {}
    for one in given:
        for path in _expanded(one):
            found[_usable(path, cache)] = None
    return list(found)


def _expanded(pattern: Path | str) -> list[Path]:
    path = Path(pattern)
    if path.exists() or path.is_symlink():
        return [path]
    matches = sorted(glob.glob(str(pattern), recursive=True))
    if not matches:
        raise InputError(f"{pattern}: no such file or folder", hint="check the path")
    return list(map(Path, matches))


def _usable(path: Path, cache: Path) -> Path:
    if path.name.endswith(REPORT_SUFFIXES):
        return exported(path, cache)
    return path

"""What the user's arguments name, as files and folders on this machine.

Patterns are expanded, URLs fetched, archives unpacked and Nsight reports exported into a folder of
the user's cache, one entry each, so that a second look at the same input is quick.
"""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.model import NONE
from perfkit.trace.nsys_report import REPORT_SUFFIXES, exported

_RANK_OF = re.compile(r"(\d{1,6})=(.+)")


def user_cache() -> Path:
    """Return the user's cache folder of perfkit, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "perfkit"


def local_paths(given: Sequence[Path | str], cache: Path) -> dict[Path, int]:
    """Return the files and folders that the arguments name, in order, each with its rank.

    The rank is NONE unless the argument says it (`3=trace.json`). Raises InputError for an argument
    that names nothing or cannot be brought here.
    """
    found: dict[Path, int] = {}
    for one in given:
        pattern, rank = _split_rank(one)
        paths = [_usable(path, cache) for path in _expanded(pattern)]
        if rank != NONE and (len(paths) > 1 or paths[0].is_dir()):
            raise InputError(
                f"{one}: a rank goes with one file", hint="for example 0=a.json 1=b.json"
            )
        found |= dict.fromkeys(paths, rank)
    return found


def _split_rank(given: Path | str) -> tuple[Path | str, int]:
    match = _RANK_OF.fullmatch(str(given))
    if match is None or os.path.lexists(given):
        return given, NONE
    return match[2], int(match[1])


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

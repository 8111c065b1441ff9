"""What the user's arguments name, as files and folders on this machine.

Patterns are expanded, URLs fetched, archives unpacked and Nsight reports exported into a folder of
the user's cache, one entry each, so that a second look at the same input is quick.
"""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.archive import ARCHIVE_SUFFIXES, unpacked
from perfkit.trace.fetch import fetched, is_url
from perfkit.trace.model import NONE
from perfkit.trace.nsys_report import REPORT_SUFFIXES, exported

_RANK_OF = re.compile(r"(\d{1,6})=(.+)")


def user_cache() -> Path:
    """Return the user's cache folder of perfkit, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "perfkit"


@dataclass(frozen=True, slots=True)
class Input:
    """One file or folder to read. `rank` is NONE unless the argument says it (`3=trace.json`)."""

    path: Path
    rank: int = NONE
    is_copy: bool = False  # it lies in the cache: results go elsewhere


def find_inputs(given: Sequence[Path | str], cache: Path) -> list[Input]:
    """Return the files and folders that the arguments name, in order, each once.

    Raises InputError for an argument that names nothing or cannot be brought here.
    """
    found: dict[Path, Input] = {}
    for one in given:
        pattern, rank = _split_rank(one)
        inputs = _expanded(pattern, cache)
        if rank != NONE and (len(inputs) > 1 or inputs[0].path.is_dir()):
            raise InputError(f"{one}: a rank goes with one file", hint="write 0=a.json 1=b.json")
        found |= {item.path: replace(item, rank=rank) for item in inputs}
    return list(found.values())


def _split_rank(given: Path | str) -> tuple[Path | str, int]:
    match = _RANK_OF.fullmatch(str(given))
    if match is None or os.path.lexists(given):
        return given, NONE
    return match[2], int(match[1])


def _expanded(pattern: Path | str, cache: Path) -> list[Input]:
    if isinstance(pattern, str) and is_url(pattern):
        return [_local(Input(fetched(pattern, cache), is_copy=True), cache)]
    path = Path(pattern)
    if path.exists() or path.is_symlink():
        return [_local(Input(path), cache)]
    matches = sorted(glob.glob(str(pattern), recursive=True))
    if not matches:
        raise InputError(f"{pattern}: no such file or folder", hint="check the path")
    return [_local(Input(Path(match)), cache) for match in matches]


def _local(item: Input, cache: Path) -> Input:
    path = item.path
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: a pipe, a socket or a device", hint="write it to a file first")
    if path.name.endswith(REPORT_SUFFIXES):
        return replace(item, path=exported(path, cache))
    if path.name.endswith(ARCHIVE_SUFFIXES) and path.is_file():
        return replace(item, path=unpacked(path, cache), is_copy=True)
    return item

"""Keeps what was fetched, unpacked or exported for reading: one folder per input and content.

An entry is made whole or not at all, and goes once nobody has asked for it for a while.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from perfkit.errors import writing

KEPT_DAYS = 14
READ_SUFFIXES = (
    ".json",
    ".json.gz",
    ".jsonl",
    ".sqlite",
    ".sqlite.gz",
    ".nsys-rep",
    ".qdrep",
    ".log",
)
"""What a folder of traces or a run folder is made of; other files are not brought here."""


def kept(cache: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of an input, which `make` fills if it is not there yet.

    Raises what `make` raises, and InputError if the folder cannot be written.
    """
    base = cache / "inputs"
    entry = base / key
    with writing(base, hint="free some space there, or set XDG_CACHE_HOME to another folder"):
        base.mkdir(parents=True, exist_ok=True)
        _forget(base)
        if entry.is_dir():
            os.utime(entry)
            return entry
        with tempfile.TemporaryDirectory(prefix=".new-", dir=base) as draft:
            folder = Path(draft) / "entry"
            folder.mkdir()
            make(folder)
            with contextlib.suppress(OSError):  # another process was quicker
                folder.rename(entry)
    return entry


def _forget(base: Path) -> None:
    old = time.time() - KEPT_DAYS * 86_400
    for entry in base.iterdir():
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < old:
                shutil.rmtree(entry)


def place_in(folder: Path, name: str) -> Path:
    """Return where a file called `name` elsewhere goes inside `folder`.

    Raises ValueError if the name leads out of the folder or is none.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} leads out of its folder")
    return folder.joinpath(*parts)


def innermost(folder: Path) -> Path:
    """Return the folder itself, or the only folder in it, and so on."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]

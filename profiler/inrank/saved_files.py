"""What follows a checkpoint's write and belongs to it: flushing the file and moving it in place.

The usual atomic checkpoint is torch.save to a draft, os.fsync, os.replace: on many file systems
the last two take longer than the write. They count where they touch a file saved just before.
"""

from __future__ import annotations

import os
from collections import deque
from threading import get_ident
from typing import Any, Callable

from .patching import patch
from .tally import tally

REMEMBERED = 8  # paths
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

saved: deque[str] = deque(maxlen=REMEMBERED)


def note(target: Any) -> None:
    """Remember the file that `target`, a path or an open file, names; a buffer names none."""
    name = getattr(target, "name", target)
    if isinstance(name, (str, os.PathLike)):
        saved.append(os.path.abspath(os.fspath(name)))


def _if_saved(timed: Wrap, path_of: Callable[[Any], str], moves: bool) -> Wrap:
    """Time a call whose first argument leads to a saved file."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        counted = timed(original)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not saved or not args or get_ident() != tally.thread or not _known(path_of, args[0]):
                return original(*args, **kwargs)
            result = counted(*args, **kwargs)
            if moves and len(args) > 1:
                note(args[1])
            return result

        return call

    return wrap


def _known(path_of: Callable[[Any], str], target: Any) -> bool:
    try:
        path = os.path.abspath(path_of(target))
    except (OSError, TypeError, ValueError):  # whatever is wrong with it, the call itself says
        return False
    return path in saved or path in {os.path.dirname(known) for known in saved}


def _path_of_descriptor(file: Any) -> str:
    descriptor = file if isinstance(file, int) else file.fileno()
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _path(path: Any) -> str:
    return os.fsdecode(path)


def install(timed: Wrap) -> None:
    """Patch the calls of `os`; pathlib and shutil go through them."""
    for name in ("replace", "rename"):
        patch(os, name, _if_saved(timed, _path, moves=True))
    for name in ("fsync", "fdatasync"):
        patch(os, name, _if_saved(timed, _path_of_descriptor, moves=False))

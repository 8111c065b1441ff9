"""Where a rank's streams lie: in its folder, or on local disk until it ends.

A run folder on a network file system would be written to once a step by every rank. The streams
are then kept under the machine's folder for temporary files (`stream_folder` in facts.json) and
moved into the rank's folder at its end; the launching parent moves those of a killed rank.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

NAMES = ("steps.jsonl", "collectives.jsonl")


def folder_for(stream_dir: str | None, relative: str, fallback: str) -> str:
    """The folder for a rank's streams, made: under `stream_dir`, or `fallback` if that fails."""
    if stream_dir is None:
        return fallback
    local = os.path.join(stream_dir, relative)
    try:
        os.makedirs(local, mode=0o700, exist_ok=True)
    except OSError:
        return fallback
    return local


def bring(local: str, folder: str) -> None:
    """Move the streams in `local` into `folder`, whole. Raises OSError; nothing is lost then."""
    if local == folder:
        return
    for name in NAMES:
        source = os.path.join(local, name)
        if os.path.exists(source):
            draft = os.path.join(folder, f".{name}.tmp")
            shutil.copyfile(source, draft)
            os.replace(draft, os.path.join(folder, name))
            os.unlink(source)
    with suppress(OSError):  # other ranks may still have theirs there
        for place in (local, os.path.dirname(local), os.path.dirname(os.path.dirname(local))):
            os.rmdir(place)  # the rank's, the attempt's, the run's

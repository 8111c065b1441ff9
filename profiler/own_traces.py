"""Collects the traces that the program's own profiler wrote, once the command has ended.

The rank noted where they went (inrank/own_traces.py). They are copied, packed, into the rank's
folder as own-0000.json.gz; the program's files stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from perfkit.profiler import closing

MOST = 8  # traces of one rank
MOST_BYTES = 1 << 31


def collect(run: Path, node: str) -> tuple[str, ...]:
    """Copy the traces of this parent's ranks; what could not be collected, in words."""
    warnings = []
    for folder in sorted(run.glob("attempt*/rank*")):
        if not closing.is_ours(folder, node):
            continue
        found = list(dict.fromkeys(_noted(folder)))
        for number, path in enumerate(found[:MOST]):
            try:
                _copy(path, folder / f"own-{number:04d}.json.gz")
            except OSError as error:
                why = error.strerror or str(error)
                warnings.append(f"{path}: the program's own trace was not collected: {why}")
        if len(found) > MOST:
            warnings.append(f"{folder.name}: {len(found) - MOST} more own traces were left out")
    return tuple(warnings)


def _noted(folder: Path) -> Iterator[Path]:
    """The files that a rank noted, in order; a torn line names none."""
    try:
        lines = (folder / "steps.jsonl").read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        if b'"k":"own_trace"' in line:
            try:
                yield Path(str(json.loads(line)["file"]))
            except (ValueError, KeyError):
                continue


def _copy(path: Path, target: Path) -> None:
    if path.stat().st_size > MOST_BYTES:
        raise OSError(f"it is larger than {MOST_BYTES >> 30} GiB")
    if path.suffix == ".gz":
        draft = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(path, draft)
        os.replace(draft, target)
    else:
        closing.pack(path, target)

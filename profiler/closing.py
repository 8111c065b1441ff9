"""What the parent does when the command has ended: compress traces, collect late complaints."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from isal import igzip

from perfkit.profiler.inrank import streams

CHUNK_BYTES = 1 << 20
SUBMITTERS = ("ray job submit", "sbatch")  # do not start the ranks below themselves


def compress_traces(run: Path, node: str) -> tuple[str, ...]:
    """Turn the traces of this parent's ranks into `.json.gz`; what went wrong, in words.

    The plain file goes away only after its compressed form is complete, so that a parent that is
    killed here loses nothing: readers take either.
    """
    warnings = []
    for folder in sorted(run.glob("attempt*/rank*")):
        if not is_ours(folder, node):
            continue
        for trace in sorted(folder.glob("trace-*.json")):
            try:
                _compress(trace)
            except OSError as error:
                warnings.append(f"{trace}: not compressed: {error.strerror}")
    return tuple(warnings)


def bring_streams(run: Path, node: str) -> tuple[str, ...]:
    """Move the streams that killed ranks left on local disk; what went wrong, in words."""
    warnings = []
    for folder in sorted(run.glob("attempt*/rank*")):
        local = _facts(folder).get("stream_folder")
        if isinstance(local, str) and is_ours(folder, node):
            try:
                streams.bring(local, str(folder))
            except OSError as error:
                warnings.append(f"{local}: not moved into the run folder: {error.strerror}")
    return tuple(warnings)


def _facts(folder: Path) -> dict[str, object]:
    try:
        facts = json.loads((folder / "facts.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_ours(folder: Path, node: str) -> bool:
    """Whether a rank's folder is of a rank that this node's parent launched."""
    return _facts(folder).get("parent_node") == node


def _compress(trace: Path) -> None:
    pack(trace, trace.with_name(f"{trace.name}.gz"))
    trace.unlink()


def pack(trace: Path, target: Path) -> None:
    """Write a trace's packed form whole. Raises OSError."""
    draft = target.with_name(f".{target.name}.tmp")
    with open(trace, "rb") as source, _gzip(draft) as packed:
        while chunk := source.read(CHUNK_BYTES):
            packed.write(chunk)
    os.replace(draft, target)


def _gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], igzip.open(path, "wb", compresslevel=1))  # type: ignore[no-untyped-call]


def missing_ranks(run: Path, command: Sequence[str]) -> tuple[str, ...]:
    """Why there are no ranks, or fewer than there were: what capture could not record of itself."""
    try:
        return tuple((run / "boot-errors.log").read_text().splitlines())
    except OSError:
        pass
    if any(run.glob("attempt*/rank*")):
        return ()
    submitter = next((s for s in SUBMITTERS if _runs(command, s)), None)
    if submitter is not None:
        return (
            f"no rank was captured: `{submitter}` has its program started elsewhere; submit"
            " `perfkit profile --out SHARED -- ...` as that program",
        )
    return (
        "no rank was captured: no process of the command stepped an optimizer or initialised"
        " torch.distributed, or Python ran with -I, -E or -S, or PYTHONPATH was replaced",
    )


def _runs(command: Sequence[str], submitter: str) -> bool:
    program, *words = submitter.split()
    return Path(command[0]).name == program and list(command[1 : 1 + len(words)]) == words

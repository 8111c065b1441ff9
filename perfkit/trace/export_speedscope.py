"""Joins the py-spy stacks of all ranks into one speedscope file: a profile per rank and thread.

The format is speedscope's file-format-schema.json: frames are shared, samples are indices into
them. What py-spy wrote is checked, because a torn file must not make a file that speedscope
refuses.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from perfkit.errors import InputError
from perfkit.trace.redaction import Redaction

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_NAME = re.compile(r"rank(\d+)\.(\d+)\.speedscope\.json")


class _Frame(msgspec.Struct, omit_defaults=True, frozen=True):
    name: str
    file: str | None = None
    line: int | None = None


class _Profile(msgspec.Struct):
    type: str
    name: str
    unit: str
    samples: list[list[int]]
    weights: list[float]
    start_value: float = msgspec.field(name="startValue", default=0.0)
    end_value: float = msgspec.field(name="endValue", default=0.0)


class _Shared(msgspec.Struct):
    frames: list[_Frame]


class _Document(msgspec.Struct):
    profiles: list[_Profile]
    shared: _Shared


def stack_files(run: Path) -> list[tuple[int, Path]]:
    """Return rank and file of the stacks in a run folder, by rank."""
    found = [(m, path) for path in (run / "stacks").glob("*.json") if (m := _NAME.match(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def speedscope(files: Sequence[tuple[int, Path]], title: str, redaction: Redaction) -> bytes:
    """Return one document with the profiles of all files. Raises InputError where none is whole."""
    frames: dict[_Frame, int] = {}
    profiles: list[dict[str, Any]] = []
    damaged = []
    for rank, path in files:
        try:
            document = msgspec.json.decode(path.read_bytes(), type=_Document)
            profiles += list(_profiles(rank, document, frames, redaction))
        except (OSError, msgspec.MsgspecError, IndexError, UnicodeDecodeError) as error:
            damaged.append(f"{path.name}: {error}")
    if not profiles:
        raise InputError(f"no stacks can be read: {damaged[0] if damaged else 'there are none'}")
    shown = {"$schema": SCHEMA, "exporter": "perfkit", "name": title, "activeProfileIndex": 0}
    listed = [msgspec.to_builtins(frame) for frame in frames]
    return json.dumps({**shown, "shared": {"frames": listed}, "profiles": profiles}).encode()


def _profiles(
    rank: int, document: _Document, frames: dict[_Frame, int], redaction: Redaction
) -> Iterator[dict[str, Any]]:
    """Yield a file's profiles, their frames added to the shared ones."""
    own = [
        frames.setdefault(
            _Frame(
                name=redaction.text(frame.name),
                file=redaction.path(frame.file) if frame.file else None,
                line=frame.line,
            ),
            len(frames),
        )
        for frame in document.shared.frames
    ]
    for profile in document.profiles:
        yield {
            "type": profile.type,
            "name": f"rank {rank}: {redaction.text(profile.name)}",
            "unit": profile.unit,
            "startValue": profile.start_value,
            "endValue": profile.end_value,
            "samples": [[own[index] for index in sample] for sample in profile.samples],
            "weights": profile.weights,
        }

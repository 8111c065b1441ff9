"""How a rank writes: streams line by line, whole files under a temporary name.

A line is one `os.write` to a file opened for appending, so that whatever kills the process, every
line written before is in the page cache and survives it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 1


class Stream:
    """An append-only `.jsonl` file that starts with a header line."""

    def __init__(self, path: str, **header: Any) -> None:
        self.path = path
        self.lost = 0  # lines that a full disk, say, has refused
        self.why_lost = ""
        self._torn = False  # the file ends within a line
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self.record("header", schema_version=SCHEMA_VERSION, **header)

    def write(self, line: bytes) -> None:
        """Append one line, which ends with a newline; one that cannot be written is counted."""
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self.fd, line)
        except OSError as error:
            self.lost, self.why_lost = self.lost + 1, str(error.strerror)
            return
        self._torn = written < len(line)
        if self._torn:
            self.lost, self.why_lost = self.lost + 1, "the line was cut short"

    def record(self, kind: str, **fields: Any) -> None:
        """Append one record of the given kind."""
        self.write(encode({"k": kind, **fields}) + b"\n")

    def close(self) -> None:
        """Close the file; its content stays."""
        os.close(self.fd)


def encode(document: Mapping[str, Any]) -> bytes:
    """Compact JSON; what JSON cannot say is written as its text."""
    return json.dumps(document, separators=(",", ":"), default=str).encode()


def write_whole(path: str, document: Mapping[str, Any]) -> None:
    """Write a JSON document so that a reader sees the old one or the new one, never a part."""
    draft = f"{path}.{os.getpid()}.tmp"
    with open(draft, "wb") as file:
        file.write(encode({"schema_version": SCHEMA_VERSION, **document}))
    os.replace(draft, path)

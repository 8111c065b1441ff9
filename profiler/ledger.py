"""What an experiment has done so far: one JSON line a run, appended when the run has ended.

A finished run is never run again. A torn last line (perfkit was killed) is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit.errors import SetupError, writing
from perfkit.trace.runner import Trial

SCHEMA_VERSION = 1
FILE = "ledger.jsonl"
ELSEWHERE = "name another folder with --out DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run that has ended. `key` tells whether a trial of that name asks for the same thing."""

    name: str
    key: str
    ok: bool
    reason: str
    seconds: float


class Ledger:
    """The ledger of one experiment folder."""

    def __init__(self, folder: Path, *, elsewhere: str = ELSEWHERE) -> None:
        """`elsewhere`: how the user names another folder."""
        self.path = folder / FILE
        self.elsewhere = elsewhere
        self.entries = _read(self.path)

    def finished(self, trial: Trial, key: str, *, failed_too: bool = False) -> Entry | None:
        """Return the entry of this trial if it has ended well before, or ended at all.

        Raises SetupError where the folder holds a run of this name of something else.
        """
        known = self.entries.get(trial.name)
        if known is None or not (known.ok or failed_too):
            return None
        if known.key != key:
            raise SetupError(
                f"{self.path.parent} holds {trial.name} of another command, other options or "
                "another version of perfkit",
                hint=self.elsewhere,
            )
        return known

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        self.entries[entry.name] = entry
        line = {"k": "run", "name": entry.name, "key": entry.key, "ok": entry.ok}
        line |= {"reason": entry.reason, "seconds": round(entry.seconds, 3)}
        self._append(line)

    def note(self, kind: str, **fields: Any) -> None:
        """Append a line that is no run."""
        self._append({"k": kind, **fields})

    def _append(self, line: Mapping[str, Any]) -> None:
        with writing(self.path, SetupError):
            fresh = not self.path.exists()
            with self.path.open("ab") as stream:
                if fresh:
                    header = {"k": "header", "schema_version": SCHEMA_VERSION}
                    stream.write(json.dumps(header).encode() + b"\n")
                stream.write(json.dumps(line).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())


def key_of(trial: Trial, options: Mapping[str, object]) -> str:
    """Return a digest of what a trial runs and how: the same key is the same trial."""
    asked = [list(trial.command), sorted(trial.environment.items()), sorted(options.items())]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    for line in lines:
        try:
            found = json.loads(line)
            if found.get("k") == "run":
                entry = Entry(
                    name=str(found["name"]),
                    key=str(found["key"]),
                    ok=bool(found["ok"]),
                    reason=str(found["reason"]),
                    seconds=float(found["seconds"]),
                )
                entries[entry.name] = entry
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return entries

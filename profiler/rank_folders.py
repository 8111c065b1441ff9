"""The rank folders of a run that is going on: who has come, how far, on which process."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RankFolder:
    """One rank process of the run."""

    path: Path
    rank: int
    pid: int
    attempt: int
    parent_node: str
    hostname: str
    world_size: int = 1
    traced: bool = True  # whether it writes traces
    stream_folder: str = ""  # local disk for its streams while it runs; "": its folder

    def alive(self) -> bool:
        """Whether the process runs; only sensible on the machine it runs on."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not self.ended()

    def ended(self) -> bool:
        """Whether the rank has written its last record."""
        return any(record.get("k") == "end" for record in self._tail())

    def last_step(self) -> dict[str, object] | None:
        """The newest step line; None before the first step has ended."""
        return next((r for r in reversed(self._tail()) if r.get("k") == "step"), None)

    def recent_steps_s(self, count: int) -> list[float]:
        """How long each of the newest steps took, in seconds, at most `count` of them."""
        lines = [record for record in self._tail() if record.get("k") == "step"]
        return [(int(str(r["t1"])) - int(str(r["t0"]))) / 1e9 for r in lines[-count:]]

    def _streams(self) -> Path:
        """Where its streams lie now; those on another machine's disk cannot be seen from here."""
        moved = (self.path / "steps.jsonl").exists()
        return self.path if moved or not self.stream_folder else Path(self.stream_folder)

    def _tail(self) -> list[dict[str, object]]:
        """The last records of steps.jsonl, without torn ones."""
        try:
            with open(self._streams() / "steps.jsonl", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - TAIL_BYTES, 0))
                lines = file.read().split(b"\n")
        except OSError:
            return []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return [record for record in records if isinstance(record, dict)]


def find(run: Path, parent_node: str | None = None) -> list[RankFolder]:
    """The rank processes of the newest attempt, by rank; of one launching parent if it is named."""
    found = [folder for path in run.glob("attempt*/rank*") if (folder := _read(path)) is not None]
    newest = max((folder.attempt for folder in found), default=0)
    wanted = [f for f in found if f.attempt == newest and parent_node in (None, f.parent_node)]
    return sorted(wanted, key=lambda folder: (folder.rank, folder.pid))


def _read(path: Path) -> RankFolder | None:
    try:
        facts = json.loads((path / "facts.json").read_bytes())
        return RankFolder(
            path,
            int(facts["rank"]),
            int(facts["pid"]),
            int(facts["attempt"]),
            str(facts["parent_node"]),
            str(facts["hostname"]),
            int(facts.get("world_size", 1)),
            bool(facts.get("traced", True)),
            str(facts.get("stream_folder") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None

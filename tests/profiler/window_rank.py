"""A stand-in for a rank, for tests that open windows in their own process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any


class WindowRank:
    """As much of a rank as a window needs."""

    step = 0

    def __init__(self, folder: Path, local_rank: int | None = 0) -> None:
        self.folder = self.streams = str(folder)
        self.who: Any = SimpleNamespace(local_rank=local_rank, rank=0)
        self.records: list[dict[str, Any]] = []
        self.stream: Any = SimpleNamespace(record=lambda k, **r: self.records.append(r))
        self.facts: Any = SimpleNamespace(refresh=lambda: None)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

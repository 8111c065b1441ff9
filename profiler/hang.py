"""`--on-hang SECONDS`: when no rank has ended a step for so long, write down what each is doing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from perfkit.errors import PerfkitError
from perfkit.profiler import rank_folders
from perfkit.profiler.companions import Companion
from perfkit.profiler.dump import dump

LOOKS = 10  # in the time that makes a hang
LONGEST_PERIOD_S = 5.0


class HangWatch(Companion):
    """Dumps once per hang, and is ready again after the next step.

    A job may hang before its first step too: time counts from the moment a rank has come.
    """

    name = "hang watch"

    def __init__(self, run: Path, node: str, seconds: float, tell: Callable[[str], None]) -> None:
        super().__init__(min(seconds / LOOKS, LONGEST_PERIOD_S))
        self.run = run
        self.node = node
        self.seconds = seconds
        self.tell = tell
        self._progress: dict[int, int] = {}
        self._since = time.monotonic()
        self._dumped = False

    def act(self) -> None:
        """Compare the ranks' steps with those of the last look."""
        alive = [f for f in rank_folders.find(self.run, self.node) if f.alive()]
        steps = {f.pid: int(str(line["i"])) if (line := f.last_step()) else -1 for f in alive}
        if not steps or steps != self._progress:
            self._progress, self._since, self._dumped = steps, time.monotonic(), False
        elif not self._dumped and time.monotonic() - self._since >= self.seconds:
            self._dumped = True
            self._dump()

    def _dump(self) -> None:
        try:
            found = dump(self.run)
        except PerfkitError as error:
            self.warnings.append(f"a hang was seen and not dumped: {error}")
            return
        text = f"no rank has ended a step for {self.seconds:g} s: see {found.folder}/dump.txt"
        self.warnings.append(text)
        self.tell(text)

"""`--py-spy`: sample every rank's Python stacks around the window, into RUN/stacks/."""

from __future__ import annotations

from pathlib import Path

from perfkit.profiler import pyspy, rank_folders
from perfkit.profiler.companions import Companion
from perfkit.profiler.rank_folders import RankFolder

PERIOD_S = 0.2
STEPS_BEFORE = 3  # so that py-spy samples before the window begins


class StackSampling(Companion):
    """Starts py-spy on each rank that comes near the first window, and ends it after it.

    Where that is soon over, it samples on for a second.
    """

    name = "py-spy"

    def __init__(self, run: Path, node: str, window: tuple[int, int], py_spy: str) -> None:
        super().__init__(PERIOD_S)
        self.run = run
        self.node = node
        self.first, self.last = window
        self.py_spy = py_spy
        self._recordings: dict[int, tuple[RankFolder, pyspy.Recording]] = {}
        self._done: set[int] = set()

    def act(self) -> None:
        """Look how far each rank is."""
        for folder in rank_folders.find(self.run, self.node):
            if folder.pid in self._done:
                continue
            line = folder.last_step()
            step = int(str(line["i"])) if line is not None else -1
            if folder.pid in self._recordings:
                enough = self._recordings[folder.pid][1].has_enough()
                if (step > self.last and enough) or folder.ended():
                    self._end(folder.pid)
            elif self.first - STEPS_BEFORE <= step + 1 and step <= self.last:
                self._begin(folder)

    def _begin(self, folder: RankFolder) -> None:
        stacks = self.run / "stacks"
        stacks.mkdir(exist_ok=True)
        target = stacks / f"rank{folder.rank:05d}.{folder.pid}.speedscope.json"
        self._recordings[folder.pid] = (
            folder,
            pyspy.Recording(self.py_spy, folder.pid, target),
        )

    def _end(self, pid: int) -> None:
        folder, recording = self._recordings.pop(pid)
        self._done.add(pid)
        failure = recording.end()
        if failure:
            self.warnings.append(f"rank {folder.rank} has no stacks: {failure}")

    def close(self) -> None:
        """End what still runs: a run that ended inside the window."""
        for pid in list(self._recordings):
            self._end(pid)
        if not self._done:
            self.warnings.append(
                f"no stacks: no rank came near the window {self.first}:{self.last} while it ran"
            )

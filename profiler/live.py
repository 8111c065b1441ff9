"""`--analyze live`: a verdict once the first window has closed on all ranks; the job goes on.

The analysis is a process of its own at the lowest priority, one processor at a time, and ends with
the command at the latest: the verdict of the whole run comes then.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from perfkit.profiler import pyspy, rank_folders
from perfkit.profiler.companions import Companion
from perfkit.profiler.rank_folders import RankFolder

PERIOD_S = 0.5
STDERR = 2
LOWEST_PRIORITY = 19


class LiveVerdict(Companion):
    """Waits for the first window's traces, then analyses the run folder as it is."""

    name = "live analysis"

    def __init__(self, run: Path, node: str, tell: Callable[[str], None]) -> None:
        super().__init__(PERIOD_S)
        self.run = run
        self.node = node
        self.tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._done = False

    def act(self) -> None:
        """Start the analysis when it is time, and see to its end."""
        if self._process is not None:
            self._look_after(self._process)
        elif not self._done and is_due(rank_folders.find(self.run), self.node):
            self._begin()

    def _begin(self) -> None:
        self.tell("the first window has closed on all ranks; its verdict, while the job goes on:")
        command = [sys.executable, "-m", "perfkit", "analyze", str(self.run), "--jobs", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", pyspy.UNBLOCK, *command],
            stdin=subprocess.DEVNULL,
            stdout=STDERR,
            start_new_session=True,  # a key at the terminal is not for it
            env={k: v for k, v in os.environ.items() if not k.startswith("PERFKIT_")},
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, LOWEST_PRIORITY)

    def _look_after(self, process: subprocess.Popen[bytes]) -> None:
        status = process.poll()
        if status is None:
            return
        self._process, self._done = None, True
        if status != 0:
            self.warnings.append(f"the live analysis failed with status {status}")

    def close(self) -> None:
        """The command has ended: the verdict of the whole run follows."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def is_due(ranks: Sequence[RankFolder], node: str) -> bool:
    """Whether all ranks are there, those that trace have a trace, and rank 0 is of this node."""
    if not ranks or ranks[0].parent_node != node or ranks[0].rank != 0:
        return False
    if len({folder.rank for folder in ranks}) < ranks[0].world_size:
        return False
    return all(any(f.path.glob("trace-*.json*")) for f in ranks if f.traced)

"""What the parent does beside waiting while the command runs: sample, watch, act on a schedule.

Companions run in threads of the parent, started after the command so that no thread is there when
it forks. None may disturb the command or change how `profile` ends: whatever fails in one is
recorded as a warning of the run.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PATIENCE_S = 30.0  # how long the end of a run waits for a companion that is in the middle of a task


class Companion(ABC):
    """A thread that calls `act` again and again until the command has ended."""

    name = "companion"

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.warnings: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"perfkit-{self.name}", daemon=True)

    @abstractmethod
    def act(self) -> None:
        """Do what is due now."""

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Called once, in the companion's thread, when the command has ended."""

    def _run(self) -> None:
        try:
            while not self._ended.wait(self.period_s):
                self.act()
            self.close()
        except Exception as error:  # the training goes on without us, and the run says so
            self.warnings.append(f"{self.name} stopped: {error or type(error).__name__}")

    def start(self) -> None:
        """The command has been started."""
        self._thread.start()

    def stop(self) -> None:
        """The command has ended: finish what is being done."""
        self._ended.set()
        self._thread.join(PATIENCE_S)

    @property
    def over(self) -> bool:
        """Whether the command has ended."""
        return self._ended.is_set()


@contextmanager
def accompanied(companions: Sequence[Companion]) -> Iterator[None]:
    """Run the companions while the body waits for the command."""
    for companion in companions:
        companion.start()
    try:
        yield
    finally:
        for companion in companions:
            companion.stop()

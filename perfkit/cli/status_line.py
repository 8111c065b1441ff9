"""The last line of a terminal while work goes on: what is being done, and for how long."""

import sys
import threading
import time
from dataclasses import dataclass

QUIET_SECONDS, LEAST_SECONDS = 1.0, 0.3
_STARTED = time.monotonic()


@dataclass(slots=True)
class Work:
    """Something that takes time. `since`: on time.monotonic's clock."""

    text: str
    since: float


class StatusLine:
    """Says every second on stderr what is under way; work inside work stands for it meanwhile."""

    def __init__(self, columns: int) -> None:
        """`columns`: of the terminal; a line that wraps could not be cleared."""
        self._columns = columns
        self._under_way: list[Work] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._drawn = False
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def begin(self, text: str) -> Work:
        """Show `text` from a second on."""
        work = Work(text, time.monotonic())
        with self._lock:
            self._under_way.append(work)
        if not self._ticker.is_alive():
            self._ticker.start()
        return work

    def end(self, work: Work) -> None:
        """Show it no longer; with the last work the line ends, too."""
        with self._lock:
            self._under_way.remove(work)
        if self.idle:
            self._done.set()
            self._ticker.join()
            self.clear()

    def clear(self) -> None:
        """Take the line away, for another one to be written."""
        with self._lock:
            if self._drawn:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._drawn = False

    def _tick(self) -> None:
        wait = first_wait(time.monotonic() - _STARTED)
        while not self._done.wait(wait):
            wait = QUIET_SECONDS
            with self._lock:
                if self._under_way:
                    self._draw(self._under_way[-1])

    def _draw(self, work: Work) -> None:
        line = f"perfkit: {work.text} ({time.monotonic() - work.since:.0f} s)"
        sys.stderr.write(f"\r\x1b[K{line[: self._columns - 1]}")
        sys.stderr.flush()
        self._drawn = True


def first_wait(running: float) -> float:
    """Return how long a command that has been `running` so long stays quiet, in seconds."""
    return min(QUIET_SECONDS, max(LEAST_SECONDS, QUIET_SECONDS - running))

"""End a command together with everything that it started, wherever those processes have gone.

Launchers put their ranks into sessions of their own, so that a signal to the command's process
group misses them. A launcher that is asked to end (SIGTERM) ends its ranks itself; what is left
after a while is killed, found by its ancestors in /proc.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

GRACE_S = 40.0
"""torchrun gives its ranks 30 s between SIGTERM and SIGKILL."""


def stop_tree(process: subprocess.Popen[bytes], *, grace_s: float = GRACE_S) -> None:
    """Ask `process` to end, and kill what is left of it and its descendants after `grace_s`."""
    doomed = descendants(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    for pid, started in {**doomed, **descendants(process.pid)}.items():
        if _start_time(pid) == started:  # else the number has gone to another process
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def descendants(pid: int) -> dict[int, int]:
    """Return the processes below `pid`, each with its start time in clock ticks."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
    found: dict[int, int] = {}
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found |= {child: start for child in fresh if (start := _start_time(child)) is not None}
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _start_time(pid: int) -> int | None:
    try:
        return int(_stat(pid)[19])
    except (OSError, ValueError, IndexError):
        return None

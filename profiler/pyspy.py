"""Python stacks of other processes, by py-spy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DUMP_TIMEOUT_S = 30
END_TIMEOUT_S = 30
RATE_HZ = 100
LEAST_S = 1.0  # of sampling, so that a window of short steps has samples too
OUR_THREADS = "perfkit-"  # how the names of the threads begin that perfkit runs in a rank
NOT_INSTALLED = "py-spy is not installed: pip install py-spy"
NO_RIGHT = (
    "perfkit may not trace that process: sysctl kernel.yama.ptrace_scope=0, or the capability"
    " SYS_PTRACE (docker run --cap-add SYS_PTRACE)"
)


def program() -> str | None:
    """Path of py-spy: beside this Python, else on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def stacks(pid: int) -> tuple[list[dict[str, Any]] | None, str]:
    """The stacks of all Python threads of a process; or None and why not."""
    path = program()
    if path is None:
        return None, NOT_INSTALLED
    try:
        done = subprocess.run(
            [path, "dump", "--json", "--pid", str(pid)],
            capture_output=True,
            text=True,
            timeout=DUMP_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            return json.loads(done.stdout), ""
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, f"py-spy failed: {error}"
    return None, why(done.stderr)


def why(complaint: str) -> str:
    """py-spy's complaint in one line, with the remedy where it is a matter of rights."""
    lines = [line for line in complaint.strip().splitlines() if line.strip()]
    text = complaint.lower()
    if "permission denied" in text or "not permitted" in text:
        return NO_RIGHT
    return f"py-spy: {lines[-1].strip()}" if lines else "py-spy gave no reason"


UNBLOCK = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, ());"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
"""Starts a program with no signal blocked: while it waits for the command, perfkit blocks SIGINT,
which ends a recording, in all its threads, and a child inherits that."""


class Recording:
    """py-spy sampling one process into a speedscope file, until `end`.

    Every Python thread is sampled, also one that waits: in a rank that waits for its loader or for
    another rank, where it does so is what one wants to see.
    """

    def __init__(self, path: str, pid: int, target: Path) -> None:
        self.target = target
        self._name = Path(path).name
        self._sampling_since: float | None = None
        command = [path, "record", "--pid", str(pid), "--format", "speedscope", "--nonblocking"]
        command += ["--idle", "--rate", str(RATE_HZ), "--duration", "unlimited"]
        command += ["--output", str(target)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", UNBLOCK, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a key at the terminal is not for it
        )

    def has_enough(self) -> bool:
        """Whether it has sampled for LEAST_S, or has ended by itself."""
        if self._process.poll() is not None:
            return True
        if self._sampling_since is None and self._samples():
            self._sampling_since = time.monotonic()
        since = self._sampling_since
        return since is not None and time.monotonic() - since >= LEAST_S

    def _samples(self) -> bool:
        """Whether py-spy catches SIGINT: it does from its first sample on, and then writes."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return True  # no /proc: from its start on, as far as we know
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        ours = fields["Name"].strip() == self._name[:15]  # not yet while UNBLOCK runs
        return ours and bool(int(fields["SigCgt"], 16) & 1 << (signal.SIGINT - 1))

    def end(self) -> str:
        """Have it write its file, and the same as collapsed stacks; what went wrong, or ""."""
        if self._process.poll() is None:
            if not self._samples():
                self._process.kill()
                self._process.communicate()
                return "it ended before py-spy had begun"
            self._process.send_signal(signal.SIGINT)
        try:
            _, complaint = self._process.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return "py-spy did not end"
        if not self.target.exists():
            return why(complaint)
        try:
            document = without_our_threads(json.loads(self.target.read_bytes()))
            self.target.write_text(json.dumps(document))
            collapsed = collapse(document)
            self.target.with_suffix("").with_suffix(".raw").write_text(collapsed)
        except (OSError, ValueError, KeyError, IndexError) as error:
            return f"{self.target.name} could not be read back: {error!r}"
        return ""


def without_our_threads(speedscope: dict[str, Any]) -> dict[str, Any]:
    """A speedscope document without the profiles of perfkit's own threads."""
    profiles = [p for p in speedscope["profiles"] if f'"{OUR_THREADS}' not in p["name"]]
    return {**speedscope, "profiles": profiles}


def collapse(speedscope: dict[str, Any]) -> str:
    """Collapsed stacks (`a;b;c count`, flamegraph.pl's format) of a sampled speedscope document."""
    names = [
        f"{frame['name']} ({frame.get('file', '?')}:{frame.get('line', 0)})"
        for frame in speedscope["shared"]["frames"]
    ]
    counts: dict[str, int] = {}
    for profile in speedscope["profiles"]:
        for sample in profile["samples"]:
            stack = ";".join([profile["name"], *(names[index] for index in sample)])
            counts[stack] = counts.get(stack, 0) + 1
    return "".join(f"{stack} {count}\n" for stack, count in sorted(counts.items()))

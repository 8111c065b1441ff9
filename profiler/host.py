"""What a launching parent records of its machine and its command, at the start."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from perfkit.profiler import run_folder
from perfkit.profiler.inrank import identity, secrets
from perfkit.profiler.inrank.identity import cpus_available
from perfkit.version import __version__

LAUNCHERS = (
    "torchrun",
    "mpirun",
    "mpiexec",
    "srun",
    "deepspeed",
    "accelerate",
    "horovodrun",
    "ray",
)


def describe(
    command: Sequence[str], node: str, run: Path, windows: tuple[tuple[int, int], ...]
) -> dict[str, object]:
    """The content of run.json while the command runs (docs/run-folder.md)."""
    shown = secrets.redact_arguments(command)
    return {
        "perfkit_version": __version__,
        "run_id": run_folder.run_id(run),
        "node": node,
        "hostname": socket.gethostname(),
        "netns": identity.network_namespace(),
        "boot_id": identity.boot_id(),
        "pid": os.getpid(),
        "command": shown,
        "command_line": shlex.join(shown),
        "launcher": launcher_of(command),
        "cwd": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_model": cpu_model(),
        "cpu_count": os.cpu_count() or 1,
        "cpus_available": cpus_available(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "environment": secrets.allowed_environment(os.environ),
        "started_unix_ns": time.time_ns(),
        "ended_unix_ns": None,
        "exit_status": None,
        "signal": None,
        "windows": windows,
        "recipes": [],
        "warnings": [],
    }


def launcher_of(command: Sequence[str]) -> str:
    """What starts the ranks: torchrun, torch.distributed.run, mpirun, ... or the program itself."""
    name = Path(command[0]).name
    if name in LAUNCHERS:
        return name
    if name.startswith("python") and "-m" in command[:-1]:
        module = command[list(command).index("-m") + 1]
        return module if module.startswith("torch.distributed") else "python"
    return "python" if name.startswith("python") else name


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

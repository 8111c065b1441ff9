"""What this machine lets perfkit see: one check a facility, each with its remedy.

Torch and NVML are asked in a child process, so that a broken installation breaks nothing here.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit import units
from perfkit.errors import SetupError
from perfkit.profiler import nsys
from perfkit.profiler.cgroup import Limits, limits
from perfkit.profiler.inrank.identity import cpus_available

PROBE = Path(__file__).resolve().with_name("probe.py")
PROBE_SECONDS = 120
OLDEST_TORCH = (2, 3)
SMALL_SHM_BYTES = 1 << 30
LITTLE_DISK_BYTES = 1 << 30

OK, LIMITED, ABSENT = "ok", "limited", "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found of one facility: ok, limited (something is lost) or absent (not there)."""

    name: str
    status: str
    found: str
    remedy: str = ""


def check_all() -> tuple[Check, ...]:
    """Check everything; takes some seconds, most of them to import torch."""
    facts = probe(interpreters())
    return (
        torch_check(facts),
        cuda_check(facts),
        nvml_check(facts),
        nsys_check(),
        py_spy_check(),
        shm_check(),
        cpu_check(facts),
        memory_check(),
        network_check(),
        disk_check(Path.cwd()),
    )


def interpreters() -> tuple[str, ...]:
    """Return the Pythons that a training could run on: perfkit's own, then PATH's."""
    found = (sys.executable, shutil.which("python"), shutil.which("python3"))
    return tuple(dict.fromkeys(path for path in found if path))


def probe(candidates: Sequence[str]) -> dict[str, Any]:
    """Return the facts of the first interpreter that has torch, else of the first that answers."""
    answers = []
    for python in candidates:
        try:
            done = subprocess.run(
                [python, str(PROBE)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_SECONDS,
                check=True,
            )
            facts = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if "version" in facts["torch"]:
            return dict(facts)
        answers.append(facts)
    return dict(answers[0]) if answers else {}


def torch_check(facts: dict[str, Any]) -> Check:
    """Tell whether a torch can be imported, and whether its release is one that capture knows."""
    torch = facts.get("torch", {"error": "no Python answered"})
    if "version" not in torch:
        return Check(
            name="torch",
            status=ABSENT,
            found=f"not importable: {torch['error']}",
            remedy="install it in the environment that the training runs in; analyze needs none",
        )
    found = f"{torch['version']} in {facts['executable']} (Python {facts['python']})"
    if release(torch["version"]) < OLDEST_TORCH:
        return Check(
            name="torch", status=LIMITED, found=found, remedy="capture is made for torch 2.3 and up"
        )
    if not torch["distributed"]:
        return Check(
            name="torch",
            status=LIMITED,
            found=f"{found}, built without torch.distributed",
            remedy="install a build with torch.distributed for trainings of several ranks",
        )
    return Check(name="torch", status=OK, found=found)


def release(version: str) -> tuple[int, int]:
    """Return the major and minor number of a version string."""
    major, minor = [*version.split("."), "0", "0"][:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def cuda_check(facts: dict[str, Any]) -> Check:
    """Tell which accelerators torch can use."""
    torch = facts.get("torch", {})
    if devices := torch.get("devices"):
        return Check(name="CUDA", status=OK, found=f"{len(devices)} x {devices[0]}")
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/kfd").exists():
        return Check(
            name="CUDA", status=ABSENT, found="no GPU here; CPU trainings are captured in full"
        )
    return Check(
        name="CUDA",
        status=LIMITED,
        found="there is a GPU, and torch cannot use it",
        remedy="install a torch built for it and for this driver",
    )


def nvml_check(facts: dict[str, Any]) -> Check:
    """Tell whether the NVIDIA driver answers questions on clocks, power and memory."""
    nvml = facts.get("nvml", {"error": "no Python answered"})
    if "error" not in nvml:
        found = f"driver {nvml['driver']}, {nvml['devices']} devices"
        return Check(name="NVML", status=OK, found=found)
    if not Path("/dev/nvidiactl").exists():
        return Check(name="NVML", status=ABSENT, found="no NVIDIA driver here")
    return Check(
        name="NVML",
        status=LIMITED,
        found=str(nvml["error"]),
        remedy="pip install nvidia-ml-py; in a container NVIDIA_DRIVER_CAPABILITIES=all",
    )


def nsys_check() -> Check:
    """Tell whether Nsight Systems is on PATH, which one, and whether --nsys can use it."""
    path = shutil.which("nsys")
    if path is None:
        return Check(
            name="nsys",
            status=ABSENT,
            found="Nsight Systems is not on PATH",
            remedy="only for Nsight captures of CUDA trainings: install nsight-systems-cli",
        )
    try:
        found = nsys.find()
    except SetupError as error:
        return Check(name="nsys", status=LIMITED, found=error.message, remedy=error.hint)
    return Check(name="nsys", status=OK, found=f"{found.version} at {path}")


def py_spy_check() -> Check:
    """Let py-spy read the stack of a child of ours: that needs py-spy and the right to trace."""
    beside = Path(sys.executable).with_name("py-spy")
    path = str(beside) if beside.exists() else shutil.which("py-spy")
    if path is None:
        return Check(
            name="py-spy", status=ABSENT, found="not installed", remedy="pip install py-spy"
        )
    code = "import time; print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        dump = [path, "dump", "--pid", str(child.pid)]
        done = subprocess.run(dump, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name="py-spy", status=LIMITED, found=f"{path} does not run: {error}")
    finally:
        child.kill()
        child.communicate()
    if done.returncode == 0:
        return Check(name="py-spy", status=OK, found=f"{path} reads stacks of other processes")
    complaint = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Check(
        name="py-spy",
        status=LIMITED,
        found=f"may not read other processes: {complaint}",
        remedy="sysctl kernel.yama.ptrace_scope=0, or the capability SYS_PTRACE "
        "(docker run --cap-add SYS_PTRACE)",
    )


def shm_check(folder: Path = Path("/dev/shm")) -> Check:
    """Tell how much shared memory loader workers and communication libraries can have."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return Check(name="shm", status=LIMITED, found=f"{folder}: {error.strerror}")
    found = f"{folder}: {units.size(usage.free)} free of {units.size(usage.total)}"
    if usage.free >= SMALL_SHM_BYTES:
        return Check(name="shm", status=OK, found=found)
    return Check(
        name="shm",
        status=LIMITED,
        found=found,
        remedy="DataLoader workers may die with a bus error: docker run --shm-size=8g",
    )


def cpu_check(facts: dict[str, Any], allowed: Limits | None = None) -> Check:
    """Tell how many processors this process may use, by affinity and by cgroup quota."""
    quota = (limits() if allowed is None else allowed).processors
    usable: float = cpus_available()
    found = f"{usable:g} of {os.cpu_count() or 1} processors usable"
    if quota is not None and quota < usable:
        found += f", and the control group allows the time of {quota:g}"
        usable = quota
    threads = facts.get("torch", {}).get("threads", 0)
    if threads <= max(usable, 1):
        return Check(name="CPU", status=OK, found=found)
    return Check(
        name="CPU",
        status=LIMITED,
        found=f"{found}; torch starts {threads} threads a process",
        remedy=f"set OMP_NUM_THREADS to {max(int(usable), 1)} divided by the ranks on this machine",
    )


def memory_check(allowed: Limits | None = None, meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Tell how much main memory is left, and whether the control group allows less."""
    most = (limits() if allowed is None else allowed).memory_bytes
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total, free = (int(rows[k].split()[0]) * 1024 for k in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return Check(name="memory", status=LIMITED, found=f"{meminfo} cannot be read")
    found = f"{units.size(free)} free of {units.size(total)}"
    if most is None or most >= total:
        return Check(name="memory", status=OK, found=found)
    return Check(
        name="memory",
        status=LIMITED,
        found=f"{found}, and the control group allows {units.size(most)}",
        remedy="beyond it the kernel kills ranks: ask for more (docker run --memory, sbatch --mem)",
    )


def network_check() -> Check:
    """Tell the interfaces that are up, and whether gloo can find one by the host's name."""
    up = [name for _, name in socket.if_nameindex() if _is_up(name)]
    found = f"up: {', '.join(up) or 'none'}"
    chosen = os.environ.get("GLOO_SOCKET_IFNAME", "")
    if chosen:
        found += f"; GLOO_SOCKET_IFNAME={chosen}"
        missing = [name for name in chosen.split(",") if name and name not in up]
        if missing:
            return Check(
                name="network",
                status=LIMITED,
                found=found,
                remedy=f"{missing[0]} is not up: name another, or unset GLOO_SOCKET_IFNAME",
            )
        return Check(name="network", status=OK, found=found)
    start = time.monotonic()
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        return Check(
            name="network",
            status=LIMITED,
            found=f"{found}; the host's own name does not resolve, which gloo relies on",
            remedy="set GLOO_SOCKET_IFNAME to an interface that reaches the other ranks",
        )
    if time.monotonic() - start > 1:
        found += "; the host's own name resolves slowly"
    return Check(name="network", status=OK, found=found)


def _is_up(interface: str) -> bool:
    try:
        flags = int(Path(f"/sys/class/net/{interface}/flags").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return False
    return bool(flags & 1)


def disk_check(folder: Path) -> Check:
    """Tell whether run folders can be made here, and for how much there is room."""
    if not os.access(folder, os.W_OK):
        return Check(
            name="run folder",
            status=LIMITED,
            found=f"{folder} cannot be written",
            remedy="name a run folder elsewhere: perfkit profile --out DIR",
        )
    free = shutil.disk_usage(folder).free
    status = OK if free >= LITTLE_DISK_BYTES else LIMITED
    remedy = "" if status == OK else "a window of ten steps can take hundreds of megabytes a rank"
    return Check(
        name="run folder",
        status=status,
        found=f"{folder}: {units.size(free)} free",
        remedy=remedy,
    )

"""Which rank this process is, and where it runs."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "HOROVOD_RANK")
WORLD_VARIABLES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "HOROVOD_SIZE")
LOCAL_VARIABLES = (
    *("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
    *("SLURM_LOCALID", "HOROVOD_LOCAL_RANK"),
)


@dataclass(frozen=True)
class Identity:
    """The place of one process in the job."""

    rank: int
    world_size: int
    local_rank: int | None
    attempt: int  # elastic restarts so far
    node: str
    hostname: str
    clock_domain: str  # processes of one boot id share a clock
    pid: int

    @property
    def folder(self) -> str:
        """Path of this rank's folder, relative to the run folder."""
        return f"attempt{self.attempt}/rank{self.rank:05d}.{self.node}.{self.pid}"


def identify(environ: Mapping[str, str] = os.environ) -> Identity:
    """Tell who this process is, from torch.distributed or Horovod where up, else `environ`."""
    rank, world_size = _from_process_group()
    horovod = _from_horovod() if rank is None else None
    if horovod is not None:
        rank, world_size, _ = horovod
    if rank is None or world_size is None:
        rank, world_size = _number(environ, RANK_VARIABLES), _number(environ, WORLD_VARIABLES)
    return Identity(
        rank=rank or 0,
        world_size=max(world_size or 1, (rank or 0) + 1),
        local_rank=_number(environ, LOCAL_VARIABLES) if horovod is None else horovod[2],
        attempt=_number(environ, ("TORCHELASTIC_RESTART_COUNT",)) or 0,
        node=node_name(environ),
        hostname=socket.gethostname(),
        clock_domain=boot_id(),
        pid=os.getpid(),
    )


def _from_process_group() -> tuple[int | None, int | None]:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return None, None
    return dist.get_rank(), dist.get_world_size()


def _from_horovod() -> tuple[int, int, int] | None:
    """Rank, world size and local rank; None without an initialised Horovod."""
    module = sys.modules.get("horovod.torch")
    if module is None or not module.is_initialized():
        return None
    return module.rank(), module.size(), module.local_rank()


def _number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return None


def node_name(environ: Mapping[str, str] = os.environ) -> str:
    """NODE: torchrun's GROUP_RANK where set, else hostname plus network namespace."""
    group_rank = environ.get("GROUP_RANK", "")
    if group_rank.isdecimal():
        return group_rank
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())
    return f"{host}-{network_namespace()}"


def network_namespace() -> str:
    """Inode of the network namespace; "0" where the system has none."""
    try:
        return str(os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        return "0"


def boot_id() -> str:
    """The kernel's boot id; the hostname where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()


def cpus_available() -> int:
    """CPUs this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def clock_pair() -> dict[str, int]:
    """Monotonic and Unix time read side by side, nanoseconds."""
    return {"mono_ns": time.perf_counter_ns(), "unix_ns": time.time_ns()}

"""Which processes of an Nsight export are ranks, and which ranks they are.

A process is a rank if it put work on a device; in an export without device work, if it called CUDA
or marked NVTX ranges. Nsight stores no rank. The environment of the profiled command holds one if
each rank was profiled by an nsys of its own; of all the environment (user names, keys, addresses)
only the variables listed here are ever looked at.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.trace.model import I64, NONE
from perfkit.trace.nsys_db import Export

PID_BITS = 24
"""globalTid = hardware, virtual machine and process << 24 | thread; globalPid has thread 0."""

DEVICE_TABLES = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
)
_HOST_TABLES = ("CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS")

_RANK = ("RANK", "SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
_SIZE = ("WORLD_SIZE", "SLURM_NTASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
_MAX_RANK = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """One process of an export. `key` is its globalPid >> 24; NONE: the export names none."""

    key: int
    device: int
    events: int


@dataclass(frozen=True, slots=True)
class Membership:
    """What the environment of the profiled command says; NONE and 0 where it says nothing."""

    rank: int = NONE
    world_size: int = 0


def find_processes(export: Export) -> tuple[Process, ...]:
    """Return the processes that compute, in order of device and process id."""
    found = _found(export, DEVICE_TABLES, "globalPid")
    if not found:
        found = _found(export, _HOST_TABLES, "globalTid")
    return tuple(sorted(found, key=lambda process: (process.device, process.key)))


def _found(export: Export, tables: tuple[str, ...], owner: str) -> list[Process]:
    """Return the owners of the rows of these tables; one without a name if no table has owners."""
    rows = np.concatenate([export.integers(table, (owner, "deviceId")) for table in tables])
    if not len(rows):
        return []
    key = np.where(rows[:, 0] == NONE, NONE, rows[:, 0] >> PID_BITS)
    keys = np.unique(key[key != NONE])
    if len(keys) <= 1:  # rows without an owner can only be the one process's
        only = int(keys[0]) if len(keys) else NONE
        return [Process(only, _usual(rows[:, 1]), len(rows))]
    return [Process(int(one), _usual(rows[key == one, 1]), int((key == one).sum())) for one in keys]


def _usual(devices: I64) -> int:
    values, counts = np.unique(devices, return_counts=True)
    return int(values[np.argmax(counts)])


def membership(export: Export) -> Membership:
    """Return rank and world size from the environment of the profiled command."""
    values: dict[str, str] = {}
    entries = [value for (value,) in _environment(export)]
    for entry in entries:
        name, _, value = entry.partition("=")
        if name in _RANK or name in _SIZE:
            values.setdefault(name, value.strip('"'))
    return Membership(rank=_first(values, _RANK, NONE), world_size=_first(values, _SIZE, 0))


def _environment(export: Export) -> list[tuple[str, ...]]:
    """Return NAME=value entries: of the profiled command, else of nsys itself."""
    captured = export.texts(
        "META_DATA_CAPTURE", ("value",), "name = 'PROCESS_0:ENVIRONMENT_VARIABLE'"
    )
    if captured or not export.has("TARGET_INFO_SYSTEM_ENV", "name", "value"):
        return captured
    own = export.texts("TARGET_INFO_SYSTEM_ENV", ("value",), "name = 'DeviceEnvironment'")
    return [(entry,) for (text,) in own for entry in text.split(";")]


def _first(values: dict[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = values.get(name, "")
        if text.isascii() and text.isdigit() and int(text[:9]) < _MAX_RANK and len(text) < 8:
            return int(text)
    return default

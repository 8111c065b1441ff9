"""Published peaks of a device, looked up by what the capture says of it; a guess is never made."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from perfkit.trace.model import DeviceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Published dense peaks of one device model; SI units, per device and direction."""

    name: str
    matrix_flop_per_s: Mapping[str, float]  # by precision
    vector_fp32_flop_per_s: float
    memory_bytes_per_s: float
    last_level_cache_bytes: int
    link_bytes_per_s: float | None  # to other devices of its node
    pcie_bytes_per_s: float | None
    source: str

    def ridge(self, precision: str) -> float | None:
        """FLOP per byte of device memory at which this precision's peak is reached."""
        peak = self.matrix_flop_per_s.get(precision)
        return peak / self.memory_bytes_per_s if peak else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A device's published peaks, or the reason why there are none."""

    hardware: Hardware | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    hardware: Hardware
    patterns: tuple[re.Pattern[str], ...]
    memory_gib: tuple[float, float] | None
    multiprocessors: int | None

    def fits(self, device: DeviceFacts) -> bool:
        """Whether nothing that the capture says of the device contradicts this entry."""
        if not any(pattern.search(device.name.strip()) for pattern in self.patterns):
            return False
        gib = device.memory_bytes / 2**30
        if gib and self.memory_gib and not self.memory_gib[0] <= gib <= self.memory_gib[1]:
            return False
        known = device.multiprocessors and self.multiprocessors
        return not known or device.multiprocessors == self.multiprocessors


def find(device: DeviceFacts) -> Lookup:
    """Published peaks of that device; None with the reason if its name or variant is not known."""
    if not device.name.strip():
        return Lookup(hardware=None, reason="the capture records no device name")
    fitting = [entry.hardware for entry in _entries() if entry.fits(device)]
    if len(fitting) == 1:
        return Lookup(hardware=fitting[0])
    if fitting:
        names = ", ".join(hardware.name for hardware in fitting)
        return Lookup(hardware=None, reason=f"{device.name!r} may be any of: {names}")
    return Lookup(hardware=None, reason=f"no published peaks are known for {device.name!r}")


def all_hardware() -> tuple[Hardware, ...]:
    """Every device in hardware.toml."""
    return tuple(entry.hardware for entry in _entries())


@cache
def _entries() -> tuple[_Entry, ...]:
    text = resources.files(__package__).joinpath("hardware.toml").read_text(encoding="utf-8")
    return tuple(_entry(row) for row in tomllib.loads(text)["device"])


def _entry(row: Mapping[str, Any]) -> _Entry:
    hardware = Hardware(
        name=row["name"],
        matrix_flop_per_s={kind: value * 1e12 for kind, value in row["matrix"].items()},
        vector_fp32_flop_per_s=row["vector_fp32"] * 1e12,
        memory_bytes_per_s=row["memory"] * 1e9,
        last_level_cache_bytes=row["cache_mib"] << 20,
        link_bytes_per_s=row["link"] * 1e9 if "link" in row else None,
        pcie_bytes_per_s=row["pcie"] * 1e9 if "pcie" in row else None,
        source=row["source"],
    )
    memory = row.get("memory_gib")
    return _Entry(
        hardware=hardware,
        patterns=tuple(re.compile(pattern) for pattern in row["names"]),
        memory_gib=(memory[0], memory[1]) if memory else None,
        multiprocessors=row.get("multiprocessors"),
    )

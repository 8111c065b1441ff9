"""Time one operation on a device: warm up, repeat within a time budget, report order statistics."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from perfkit.profiler.measure.clocks import NvmlClock, host_mhz

Run = Callable[[], object]


class Device(Protocol):
    """Where an operation runs and how its time is taken."""

    torch_device: torch.device

    def seconds(self, run: Run) -> float:
        """Time of one call, caches of the device cleared beforehand where that matters."""

    def synchronize(self) -> None:
        """Wait for all work."""

    def mhz(self) -> float | None:
        """Clock now, if the machine tells."""


class HostDevice:
    """The CPU: wall time of the call."""

    torch_device = torch.device("cpu")

    def seconds(self, run: Run) -> float:
        """Wall time of one call."""
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    def synchronize(self) -> None:
        """Nothing is asynchronous."""

    def mhz(self) -> float | None:
        """Mean clock of the cores."""
        return host_mhz()


class CudaDevice:
    """A CUDA or ROCm device: time between events, second-level cache overwritten before a call."""

    def __init__(self) -> None:
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(self.torch_device)
        cache = getattr(properties, "L2_cache_size", 0)
        flush_bytes = 4 * (cache or 64 << 20)
        self._flush = torch.empty(flush_bytes, dtype=torch.int8, device=self.torch_device)
        self._clock = NvmlClock(str(getattr(properties, "uuid", "")))

    def seconds(self, run: Run) -> float:
        """Time between two events around the call."""
        event: Any = torch.cuda.Event  # torch ships no types for it
        begin, end = event(enable_timing=True), event(enable_timing=True)
        self._flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.torch_device)

    def mhz(self) -> float | None:
        """Clock of the multiprocessors."""
        return self._clock.mhz()


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    repeats: int
    budget_s: float  # per setting
    sustained_s: float

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """Seconds in all when quick, minutes otherwise."""
        return cls(20, 0.6, 1.0) if quick else cls(100, 4.0, 10.0)


@dataclass(frozen=True, slots=True)
class Taken:
    """Repeated times of one operation, and the clocks after warming up and at the end."""

    seconds: tuple[float, ...]
    before_mhz: float | None
    after_mhz: float | None

    @property
    def median_s(self) -> float:
        """Median of the repeats."""
        return statistics.median(self.seconds)

    @property
    def facts(self) -> dict[str, Any]:
        """Samples, interquartile range over median, and clocks, as ceilings.json names them."""
        low, middle, high = statistics.quantiles(self.seconds, n=4)
        clocks = {"before_mhz": self.before_mhz, "after_mhz": self.after_mhz}
        return {"samples": len(self.seconds), "spread": (high - low) / middle, "clocks": clocks}


def take(device: Device, run: Run, effort: Effort) -> Taken:
    """Time repeated calls after warming up: at least five, then until the budget is spent."""
    device.seconds(run)
    first = device.seconds(run)
    for _ in range(min(20, int(effort.budget_s / 4 / max(first, 1e-6)))):
        device.seconds(run)
    before = device.mhz()
    taken: list[float] = []
    stop = time.perf_counter() + effort.budget_s
    while len(taken) < effort.repeats and (len(taken) < 5 or time.perf_counter() < stop):
        taken.append(device.seconds(run))
    return Taken(tuple(taken), before, device.mhz())


def sustained_s(device: Device, run: Run, effort: Effort) -> float:
    """Mean seconds per call while calling without a pause."""
    calls = 0
    device.synchronize()
    begin = time.perf_counter()
    while time.perf_counter() - begin < effort.sustained_s:
        for _ in range(4):
            run()
        calls += 4
        device.synchronize()
    return (time.perf_counter() - begin) / calls

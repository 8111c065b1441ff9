"""Time one operation on a device: warm up, repeat within a time budget, report order statistics."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from perfkit.profiler.measure.clocks import NvmlClock, host_mhz

Run = Callable[[], object]
IDLE_SHARE = 0.05
QUEUED_S = 0.05
"""Work that is queued at a time under sustained load: long against waiting for its end."""


class Device(Protocol):
    """Where an operation runs and how its time is taken."""

    torch_device: torch.device

    def seconds(self, run: Run, *, cold: bool = True) -> float:
        """Time of one call. cold: on a device, what its cache held is overwritten beforehand."""

    def synchronize(self) -> None:
        """Wait for all work."""

    def mhz(self) -> float | None:
        """Clock now, if the machine tells."""

    def busy(self) -> list[str]:
        """Warn, before the first measurement, if others use the device."""


class HostDevice:
    """The CPU: wall time of the call."""

    torch_device = torch.device("cpu")

    def seconds(self, run: Run, *, cold: bool = True) -> float:
        """Wall time of one call; nothing overwrites what a CPU's caches hold."""
        del cold
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    def synchronize(self) -> None:
        """Nothing is asynchronous."""

    def mhz(self) -> float | None:
        """Mean clock of the cores."""
        return host_mhz()

    def busy(self) -> list[str]:
        """Return nothing: other programs on the CPU are looked for apart."""
        return []


class CudaDevice:
    """A CUDA or ROCm device: time between events, second-level cache overwritten before a call."""

    def __init__(self) -> None:
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(self.torch_device)
        cache = getattr(properties, "L2_cache_size", 0)
        flush_bytes = 4 * (cache or 64 << 20)
        self._flush = torch.empty(flush_bytes, dtype=torch.int8, device=self.torch_device)
        self._clock = NvmlClock(str(getattr(properties, "uuid", "")))

    def seconds(self, run: Run, *, cold: bool = True) -> float:
        """Time between two events around the call.

        While the device overwrites its cache, the call and both events are queued behind it, so
        that the time holds no launch of the first kernel.
        """
        event: Any = torch.cuda.Event  # torch ships no types for it
        begin, end = event(enable_timing=True), event(enable_timing=True)
        if cold:
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

    def busy(self) -> list[str]:
        """Warn if NVML saw the device at work before this process used it."""
        share = self._clock.busy_share()
        if share is None or share < IDLE_SHARE:
            return []
        return [f"the device was not idle: {share:.0%} busy with other programs just before"]


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
        spread = (high - low) / middle
        return {"samples": len(self.seconds), "spread": spread, "clocks": self.clocks}

    @property
    def clocks(self) -> dict[str, float | None]:
        """Clocks, as ceilings.json names them."""
        return {"before_mhz": self.before_mhz, "after_mhz": self.after_mhz}


def take(device: Device, run: Run, effort: Effort, *, cold: bool = True) -> Taken:
    """Time repeated calls after warming up: at least five, then until the budget is spent."""
    device.seconds(run, cold=cold)
    first = device.seconds(run, cold=cold)
    for _ in range(min(20, int(effort.budget_s / 4 / max(first, 1e-6)))):
        device.seconds(run, cold=cold)
    before = device.mhz()
    taken: list[float] = []
    stop = time.perf_counter() + effort.budget_s
    while len(taken) < effort.repeats and (len(taken) < 5 or time.perf_counter() < stop):
        taken.append(device.seconds(run, cold=cold))
    return Taken(tuple(taken), before, device.mhz())


@dataclass(frozen=True, slots=True)
class Sustained:
    """Mean seconds per call without a pause, and the clock while that went on."""

    seconds: float
    mhz: float | None


def sustain(device: Device, run: Run, effort: Effort, once_s: float) -> Sustained:
    """Call without a pause; once_s: what a single call takes, roughly."""
    together = max(4, min(256, int(QUEUED_S / max(once_s, 1e-9))))
    calls = 0
    device.synchronize()
    begin = time.perf_counter()
    while not calls or time.perf_counter() - begin < effort.sustained_s:
        _queue(run, together)
        calls += together
        device.synchronize()
    spent = time.perf_counter() - begin
    _queue(run, together)  # so that the clock is read of a device at work
    mhz = device.mhz()
    device.synchronize()
    return Sustained(spent / calls, mhz)


def _queue(run: Run, calls: int) -> None:
    for _ in range(calls):
        run()

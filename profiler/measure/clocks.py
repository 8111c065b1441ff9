"""Clock frequencies of the host and of a GPU, so that a moved clock shows beside a measurement."""

import contextlib
import re
import statistics
from pathlib import Path
from typing import Any


def host_mhz() -> float | None:
    """Mean clock of the host's cores from /proc/cpuinfo; None where the kernel does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    clocks = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.M)]
    return statistics.fmean(clocks) if clocks else None


class NvmlClock:
    """Clock of a GPU's multiprocessors, from NVML; None without it (ROCm, some containers)."""

    def __init__(self, uuid: str) -> None:
        self._handle: Any = None
        try:
            import pynvml
        except ImportError:
            return
        self._nvml = pynvml
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            named = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(named)

    def mhz(self) -> float | None:
        """Clock now."""
        if self._handle is None:
            return None
        try:
            clock = self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM)
        except self._nvml.NVMLError:
            return None
        return float(clock)

    def busy_share(self) -> float | None:
        """Share of the last sampling period (up to a second) in which a kernel ran."""
        if self._handle is None:
            return None
        try:
            rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        except self._nvml.NVMLError:
            return None
        return float(rates.gpu) / 100

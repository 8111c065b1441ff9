"""What the NVIDIA driver says of this machine's GPUs, asked through NVML (nvidia-ml-py).

A device answers some questions and not others, by generation and by driver: what it does not
answer is null. `nvml` is the module `pynvml`, handed in so that tests can stand in for a driver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

KIB = 1 << 10
ALL_LINKS = 0xFFFFFFFF  # a scope of nvml.h; without it the first link alone is told of


def open_gpus(nvml: Any | None = None) -> Gpus | None:
    """The GPUs of this machine; None without a driver, a device or the module that asks them."""
    nvml = nvml if nvml is not None else _module()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:
        return None
    return Gpus(nvml, count) if count else None


def _module() -> Any | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


class Gpus:
    """Handles of all devices and one subscription to their XID errors."""

    def __init__(self, nvml: Any, count: int) -> None:
        self.nvml = nvml
        self.handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        self._events = self._subscribe()

    def describe(self) -> list[dict[str, object]]:
        """What does not change: name, UUID, memory and power limit of each device."""
        return [{"index": i, **self._describe(h)} for i, h in enumerate(self.handles)]

    def _describe(self, handle: Any) -> dict[str, object]:
        nvml = self.nvml
        return {
            "name": self._ask(lambda: _text(nvml.nvmlDeviceGetName(handle))),
            "uuid": self._ask(lambda: _text(nvml.nvmlDeviceGetUUID(handle))),
            "memory_bytes": self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
            "power_limit_w": self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
            "max_sm_mhz": self._ask(
                lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
            ),
        }

    def sample(self) -> list[dict[str, object]]:
        """One reading of every device; the keys are those of docs/run-folder.md."""
        xids = self._new_xids()
        return [
            {"index": index, **self._read(handle), "xid": xids.get(index, [])}
            for index, handle in enumerate(self.handles)
        ]

    def _read(self, handle: Any) -> dict[str, object]:
        nvml = self.nvml
        used = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        return {
            "util": getattr(used, "gpu", None),
            "mem_util": getattr(used, "memory", None),
            "mem_used": self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "sm_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "mem_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "power_w": self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
            "temp_c": self._ask(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            "throttle": self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
            "pcie_tx": self._pcie(handle, "NVML_PCIE_UTIL_TX_BYTES"),
            "pcie_rx": self._pcie(handle, "NVML_PCIE_UTIL_RX_BYTES"),
            "nvlink_tx": self._nvlink(handle, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX"),
            "nvlink_rx": self._nvlink(handle, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX"),
            "ecc": self._ask(
                lambda: nvml.nvmlDeviceGetTotalEccErrors(
                    handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
                )
            ),
        }

    def _pcie(self, handle: Any, counter: str) -> object:
        """Bytes per second, which NVML gives in KiB/s over its own 20 ms."""
        which = getattr(self.nvml, counter)
        return self._ask(lambda: self.nvml.nvmlDeviceGetPcieThroughput(handle, which) * KIB)

    def _nvlink(self, handle: Any, field: str) -> object:
        """Bytes sent or received over all links since the driver was loaded."""
        which = getattr(self.nvml, field, None)
        if which is None:
            return None

        def ask() -> int | None:
            (value,) = self.nvml.nvmlDeviceGetFieldValues(handle, [(which, ALL_LINKS)])
            return None if value.nvmlReturn else int(value.value.ullVal) * KIB

        return self._ask(ask)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (self.nvml.NVMLError, AttributeError):  # not supported by device, driver or module
            return None

    def _subscribe(self) -> Any:
        try:
            events = self.nvml.nvmlEventSetCreate()
            for handle in self.handles:
                self.nvml.nvmlDeviceRegisterEvents(
                    handle, self.nvml.nvmlEventTypeXidCriticalError, events
                )
        except (self.nvml.NVMLError, AttributeError):
            return None
        return events

    def _new_xids(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for index, number in self._xid_events():
            found.setdefault(index, []).append(number)
        return found

    def _xid_events(self) -> Iterator[tuple[int, int]]:
        if self._events is None:
            return
        with suppress(self.nvml.NVMLError):  # a timeout says that there are no more
            while True:
                event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
                yield self._index_of(event.device), int(event.eventData)

    def _index_of(self, handle: Any) -> int:
        index = self._ask(lambda: self.nvml.nvmlDeviceGetIndex(handle))
        return -1 if index is None else int(index)

    def close(self) -> None:
        """Let go of the driver."""
        with suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

"""Telemetry: a driver that answers, one that does not, and a load whose size is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from perfkit.profiler.telemetry import Telemetry
from perfkit.profiler.telemetry_gpu import open_gpus
from perfkit.profiler.telemetry_host import HostCounters, RankCounters
from tests.profiler.launching import until

BURN = "print(1, flush=True)\nwhile True: pass"


class FakeNvml:
    """A driver with two devices; what is in `refused` is not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 138, 139
    nvmlEventTypeXidCriticalError = 8  # noqa: N815  (the driver's names)

    class NVMLError(Exception):
        """What every call of the module may raise."""

    ANSWERS: ClassVar[dict[str, Callable[..., Any]]] = {
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=100, used=40),
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlDeviceGetMaxClockInfo": lambda handle, clock: 1980,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=93, memory=41),
        "nvmlDeviceGetClockInfo": lambda handle, clock: {1: 1755, 2: 3201}[clock],
        "nvmlDeviceGetPowerUsage": lambda handle: 512_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 71,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x20,
        "nvmlDeviceGetPcieThroughput": lambda handle, counter: 1000 + counter,
        "nvmlDeviceGetTotalEccErrors": lambda handle, kind, counter: 0,
        "nvmlDeviceGetFieldValues": lambda handle, fields: [
            SimpleNamespace(
                nvmlReturn=0 if scope == 0xFFFFFFFF else 2, value=SimpleNamespace(ullVal=field)
            )
            for field, scope in fields
        ],
        "nvmlDeviceGetIndex": lambda handle: handle,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlEventSetCreate": object,
        "nvmlDeviceRegisterEvents": lambda *subscription: None,
        "nvmlShutdown": lambda: None,
    }

    def __init__(self, devices: int = 2, refused: tuple[str, ...] = ()) -> None:
        self.devices = devices
        self.refused = refused
        self.xids = [(1, 79)]

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.refused:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> SimpleNamespace:
        if not self.xids:
            raise self.NVMLError
        device, number = self.xids.pop()
        return SimpleNamespace(device=device, eventData=number)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self.refused:
            raise self.NVMLError
        try:
            return self.ANSWERS[name]
        except KeyError:
            raise AttributeError(name) from None


def test_a_gpu_that_answers_everything() -> None:
    gpus = open_gpus(FakeNvml())
    assert gpus is not None
    assert gpus.describe()[1] == {
        "index": 1,
        "name": "NVIDIA H200",
        "uuid": "GPU-1",
        "memory_bytes": 100,
        "power_limit_w": 700.0,
        "max_sm_mhz": 1980,
    }
    first, second = gpus.sample()
    assert first == {
        "index": 0,
        **{"util": 93, "mem_util": 41, "mem_used": 40, "sm_mhz": 1755, "mem_mhz": 3201},
        **{"power_w": 512.5, "temp_c": 71, "throttle": 0x20, "ecc": 0, "xid": []},
        **{"pcie_tx": 1000 * 1024, "pcie_rx": 1001 * 1024},
        **{"nvlink_tx": 138 * 1024, "nvlink_rx": 139 * 1024},
    }
    assert second["xid"] == [79]
    assert gpus.sample()[1]["xid"] == []


def test_what_a_gpu_does_not_answer_is_null() -> None:
    refused = ("nvmlDeviceGetTotalEccErrors", "nvmlEventSetCreate", "nvmlDeviceGetUtilizationRates")
    gpus = open_gpus(FakeNvml(refused=refused))
    assert gpus is not None
    sample = gpus.sample()[0]
    assert (sample["ecc"], sample["util"], sample["xid"], sample["temp_c"]) == (None, None, [], 71)


@pytest.mark.parametrize("nvml", [FakeNvml(devices=0), FakeNvml(refused=("nvmlInit",))])
def test_no_driver_and_no_device_are_no_gpus(nvml: FakeNvml) -> None:
    assert open_gpus(nvml) is None


@pytest.fixture
def burning() -> Iterator[subprocess.Popen[bytes]]:
    """A process that needs a whole processor."""
    process = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    yield process
    process.stdout.close()
    process.kill()
    process.wait()


def test_counters_tell_our_own_load_and_the_machines(burning: subprocess.Popen[bytes]) -> None:
    host, rank = HostCounters(), RankCounters(3, burning.pid)
    before = time.monotonic_ns()
    rank.sample()
    after = time.monotonic_ns()
    time.sleep(1.0)
    least_ns = time.monotonic_ns() - after
    own = rank.sample()
    most_ns = time.monotonic_ns() - before
    sample = host.sample()
    assert own is not None
    assert own["rank"] == 3
    assert own["rss"] is not None and own["rss"] > 1 << 20
    used, queued = own["cpu_ns"], own["queued_ns"]
    assert used is not None and queued is not None
    assert 0.7 * least_ns < used + queued < 1.1 * most_ns  # it ran, or it wanted to
    assert isinstance(sample["own_ns"], int) and sample["own_ns"] >= 0.9 * used - 2e7
    assert isinstance(sample["busy_ns"], int) and sample["busy_ns"] >= 0.9 * sample["own_ns"] - 5e7


def test_a_rank_that_has_ended_has_no_sample(burning: subprocess.Popen[bytes]) -> None:
    rank = RankCounters(0, burning.pid)
    burning.kill()
    os.waitid(os.P_PID, burning.pid, os.WEXITED | os.WNOWAIT)
    assert rank.sample() is None  # a zombie
    burning.wait()
    assert rank.sample() is None


def test_the_file_has_a_header_and_a_line_a_sample(tmp_path: Path) -> None:
    (tmp_path / "nodes/n").mkdir(parents=True)
    folder = tmp_path / "attempt0/rank00002.n.1"
    folder.mkdir(parents=True)
    facts = {"rank": 2, "pid": os.getpid(), "attempt": 0, "parent_node": "n", "hostname": "h"}
    (folder / "facts.json").write_text(json.dumps(facts))
    telemetry = Telemetry(tmp_path, "n", period_s=0.1)
    written = tmp_path / "nodes/n/telemetry.jsonl"
    telemetry.start()
    until(lambda: written.exists() and written.read_text().count("\n") >= 4)
    telemetry.stop()
    lines = written.read_text().splitlines()
    header, *samples = map(json.loads, lines)
    assert telemetry.warnings == []
    assert (header["k"], header["period_ns"]) == ("header", 100_000_000)
    assert len(samples) >= 3
    assert all(s["ranks"][0]["rank"] == 2 for s in samples)
    assert all(b["t"] - b["dt"] == a["t"] for a, b in pairwise(samples))


def test_a_folder_that_vanishes_stops_telemetry_and_nothing_else(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "gone", "n", period_s=0.05)
    telemetry.start()
    until(lambda: telemetry.warnings)
    telemetry.stop()
    assert len(telemetry.warnings) == 1
    assert telemetry.warnings[0].startswith("telemetry stopped: ")

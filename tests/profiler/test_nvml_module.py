"""The real module `pynvml` over a driver library of ours: names, layouts, units, errors.

test_telemetry.py stands in for the module; what it takes for granted is held here.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perfkit.profiler import telemetry_gpu
from tests.profiler.launching import SCRIPTS
from tests.profiler.test_telemetry import FakeNvml

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
COMPILER = shutil.which("cc") or shutil.which("gcc")

ASK = """
import json
from perfkit.profiler.telemetry_gpu import open_gpus
gpus = open_gpus()
print(json.dumps([gpus.describe(), gpus.sample(), gpus.sample()]))
gpus.close()
"""


def test_every_name_that_is_asked_for_is_in_the_module() -> None:
    source = inspect.getsource(telemetry_gpu)
    names = set(re.findall(r"\bnvml\.(nvml\w+|NVML\w+)", source)) | set(
        re.findall(r'"(NVML_\w+)"', source)
    )
    assert len(names) > 25
    assert [name for name in names if not hasattr(pynvml, name)] == []
    constants = {name for name in names if isinstance(getattr(pynvml, name), int)}
    assert {name: getattr(FakeNvml, name) for name in constants} == {
        name: getattr(pynvml, name) for name in constants
    }


def test_without_a_driver_there_are_no_gpus() -> None:
    """Its error is one of the class that we catch."""
    assert issubclass(pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError)
    assert issubclass(pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError)
    if not Path("/dev/nvidiactl").exists():
        assert telemetry_gpu.open_gpus() is None


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the driver's library is ours."""
    if COMPILER is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-w", "-o", library, SCRIPTS / "nvml.c"], check=True
    )
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def test_what_a_driver_says_comes_through_the_module(driver: dict[str, str]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", ASK], env=driver, capture_output=True, text=True, check=True
    )
    described, (first, second), later = json.loads(told.stdout)
    assert described[1] == {
        "index": 1,
        "name": "Test",
        "uuid": "GPU-1",
        "memory_bytes": 80 << 30,
        "power_limit_w": 700.0,
        "max_sm_mhz": 1980,
    }
    expected: dict[str, Any] = {
        **{"util": 93, "mem_util": 41, "mem_used": 3 << 30, "sm_mhz": 1755, "mem_mhz": 3201},
        **{"power_w": 512.5, "temp_c": 71, "throttle": 0x20, "ecc": 2, "xid": []},
        **{"pcie_tx": 1000 * 1024, "pcie_rx": 1001 * 1024},
        **{"nvlink_tx": 138 * 4 * 1024, "nvlink_rx": 139 * 4 * 1024},
    }
    assert first == {"index": 0, **expected}
    not_supported = {"util": None, "mem_util": None, "nvlink_tx": None, "nvlink_rx": None}
    assert second == {"index": 1, **expected, **not_supported, "xid": [79]}
    assert [sample["xid"] for sample in later] == [[], []]

"""The GPU branches of `perfkit ceilings`, on a stand-in for torch.cuda (no GPU is needed)."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pynvml
import pytest
import torch

from perfkit.profiler.measure import (
    children,
    clocks,
    collectives,
    compute,
    machine,
    memory,
    timing,
)
from perfkit.roofline import ceilings
from tests.conftest import ROOT
from tests.roofline.fake_cuda import ARRAY_BYTES, CALL_MS, ELEMENTS, L2_BYTES, stand_in

CALL_S = CALL_MS / 1e3


def measured(folder: Path, clocks_mhz: Any = None) -> tuple[dict[str, Any], Any]:
    """Return what a quick measurement says, and the stand-in."""
    with stand_in(clocks_mhz or itertools.repeat(1980)) as device:
        return machine.measure(quick=True, folder=folder), device


def test_every_quantity_of_a_gpu_is_measured(tmp_path: Path) -> None:
    found, device = measured(tmp_path)
    content = {**found, "schema_version": ceilings.SCHEMA_VERSION}
    entries = {(e["quantity"], e.get("precision")): e for e in found["ceilings"]}
    largest = 2 * 128**3 / CALL_S
    for precision in ("fp32", "bf16", "fp16", "tf32", "fp8"):
        assert entries["matrix", precision]["value"] == pytest.approx(largest)
        assert entries["matrix", precision]["sustained"] > 0
    chained = 2 * compute.FMA_PER_ELEMENT * ELEMENTS / CALL_S
    assert entries["vector", "fp32"]["value"] == pytest.approx(chained)
    assert entries["copy", None]["value"] == pytest.approx(2 * ARRAY_BYTES / CALL_S)
    assert entries["triad", None]["value"] == pytest.approx(3 * ARRAY_BYTES / CALL_S)
    for direction in ("h2d", "d2h"):
        assert entries[direction, None]["value"] == pytest.approx(ARRAY_BYTES / CALL_S)
    assert entries["launch", None]["value"] > 0
    assert device.pinned == 1
    assert "_scaled_mm" in device.called
    sets = [point["working_set_bytes"] for point in found["copy_by_working_set"]]
    assert sets == [1 << 20, 2 << 20]  # to four times the cache
    assert found["machine"]["device_kind"] == "cuda"
    assert found["machine"]["device_name"] == "Stand-in H200"
    assert found["machine"]["last_level_cache_bytes"] == L2_BYTES
    assert msgspec.convert(content, ceilings.Ceilings).machine.device_kind == "cuda"


def test_tf32_is_allowed_for_its_own_product_only(tmp_path: Path) -> None:
    seen: dict[str, bool] = {}
    product = compute._product

    def noted(device: Any, precision: compute.Precision, shape: compute.Shape) -> compute.Multiply:
        seen[precision.name] = torch.backends.cuda.matmul.allow_tf32
        return product(device, precision, shape)

    with mock.patch.object(compute, "_product", noted):
        measured(tmp_path)
    assert [name for name, allowed in seen.items() if allowed] == ["tf32"]
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_cache_is_overwritten_before_each_timed_call(tmp_path: Path) -> None:
    _, device = measured(tmp_path)
    products = [i for i, name in enumerate(device.called) if name == "_scaled_mm"]
    before = {device.called[i - 1] for i in products}
    assert before <= {"zero_", "_scaled_mm"}  # the latter: calls without a pause
    assert "zero_" in before


def test_cached_copies_are_not_flushed(tmp_path: Path) -> None:
    with stand_in(itertools.repeat(1980)) as device:
        gpu, effort = timing.CudaDevice(), timing.Effort(repeats=5, budget_s=0, sustained_s=0)
        sets = list(memory.copy_by_working_set(gpu, effort, 1 << 20))
    assert [point["working_set_bytes"] for point in sets] == [1 << 20]
    assert "copy_" in device.called and "zero_" not in device.called


def test_a_device_that_others_use_is_a_warning(tmp_path: Path) -> None:
    with stand_in(itertools.repeat(1980), busy_percent=40):
        found = machine.measure(quick=True, folder=None)
    said = "the device was not idle: 40% busy with other programs just before"
    assert said in found["warnings"]
    idle, _ = measured(tmp_path)
    assert not [text for text in idle["warnings"] if "not idle" in text]


def test_threads_are_refused_where_a_gpu_computes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["machine", "--threads=2"])
    with stand_in(itertools.repeat(1980)), pytest.raises(SystemExit):
        machine.main()
    assert "--threads is for a CPU, and this machine computes on a GPU" in capsys.readouterr().err


def test_load_is_sustained_at_least_once() -> None:
    """A process that is put aside while it starts still has something to divide by."""
    calls: list[int] = []
    none = timing.Effort(repeats=5, budget_s=0, sustained_s=0)
    found = timing.sustain(timing.HostDevice(), lambda: calls.append(1), none, 1.0)
    assert found.seconds > 0 and len(calls) == 8  # four that count, four under which to read


def test_a_gpu_clock_that_moved_is_a_warning(tmp_path: Path) -> None:
    found, _ = measured(tmp_path, itertools.cycle((1980, 1200)))
    assert "the clock moved from 1980 to 1200 MHz while measuring matrix fp32" in found["warnings"]
    (product,) = (e for e in found["ceilings"] if e.get("precision") == "fp16")
    clocks = product["clocks"]
    assert {clocks[key] for key in ("before_mhz", "after_mhz", "sustained_mhz")} == {1980, 1200}


def test_without_nvml_no_clock_is_known() -> None:
    def refuse(*_: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    with mock.patch.object(pynvml, "nvmlInit", refuse):
        assert clocks.NvmlClock("x").mhz() is None
    with (
        mock.patch.object(pynvml, "nvmlInit", lambda: None),
        mock.patch.object(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name),
        mock.patch.object(pynvml, "nvmlDeviceGetClockInfo", refuse),
    ):
        assert clocks.NvmlClock("x").mhz() is None


def test_what_a_gpu_refuses_leaves_the_rest(tmp_path: Path) -> None:
    """A precision that it lacks is left out, a part that fails is a warning."""
    product = compute._product

    def lacking(device: Any, precision: compute.Precision, shape: compute.Shape) -> Any:
        if precision.name == "fp8":
            raise RuntimeError("not supported")
        return product(device, precision, shape)

    def broken(*_: Any) -> None:
        raise RuntimeError("nvrtc: error: failed to open libnvrtc-builtins\nmore of it")

    with (
        mock.patch.object(compute, "_product", lacking),
        mock.patch.object(compute, "_FMA_CHAIN", mock.Mock(__mod__=broken)),
    ):
        found, _ = measured(tmp_path)
    quantities = {(e["quantity"], e.get("precision")) for e in found["ceilings"]}
    assert ("matrix", "tf32") in quantities
    assert ("matrix", "fp8") not in quantities
    assert ("vector", "fp32") not in quantities
    assert ("d2h", None) in quantities
    said = "vector arithmetic could not be measured: nvrtc: error: failed to open libnvrtc-builtins"
    assert said in found["warnings"]
    assert "matrix products in fp8 could not be measured: not supported" in found["warnings"]


def test_older_gpus_are_not_asked_for_what_they_lack() -> None:
    device = torch.device("cuda", 0)
    for capability, lacks in (((7, 0), {"tf32", "fp8"}), ((8, 0), {"fp8"}), ((8, 9), set())):
        with mock.patch.object(torch.cuda, "get_device_capability", lambda _, c=capability: c):
            names = {precision.name for precision in compute.precisions(device)}
        assert {"tf32", "fp8"} - names == lacks


def test_one_rank_on_a_gpu_measures_collectives_as_nccl() -> None:
    """The branch for a device; the collectives are gloo's, and one rank sends nothing."""
    environment = children._environment(0, 1, children._free_port())
    ran = subprocess.run(
        [sys.executable, "-m", "tests.roofline.fake_cuda", "--quick"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    found = msgspec.json.decode(ran.stdout)
    assert (found["backend"], found["ranks"], found["nodes"]) == ("nccl", 1, 1)
    assert [sweep["collective"] for sweep in found["sweeps"]] == list(collectives.COLLECTIVES)
    assert all(point["seconds"] > 0 for sweep in found["sweeps"] for point in sweep["points"])

"""Published peaks by the names that real captures carry; what is not known says why."""

from typing import Any

import pytest

from perfkit.roofline.hardware import all_hardware, find
from perfkit.trace.model import DeviceFacts


def device(name: str, memory_bytes: int = 0, multiprocessors: int = 0) -> DeviceFacts:
    return DeviceFacts(
        index=0, name=name, memory_bytes=memory_bytes, multiprocessors=multiprocessors
    )


@pytest.mark.parametrize(
    ("name", "memory_bytes", "multiprocessors", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 85018279936, 132, "NVIDIA H100 SXM"),
        ("NVIDIA H100 PCIe", 85018279936, 114, "NVIDIA H100 PCIe"),
        ("NVIDIA H100", 85018279936, 132, "NVIDIA H100 SXM"),
        ("NVIDIA H100", 85018279936, 114, "NVIDIA H100 PCIe"),
        ("NVIDIA H200", 150021734400, 132, "NVIDIA H200 SXM"),
        ("NVIDIA B200", 191503138816, 148, "NVIDIA B200 SXM"),
        ("NVIDIA A100-SXM4-80GB", 0, 0, "NVIDIA A100 SXM 80GB"),
        ("NVIDIA A100-PG509-200", 42297524224, 108, "NVIDIA A100 SXM 40GB"),
        ("NVIDIA A100 80GB PCIe", 85094825984, 108, "NVIDIA A100 PCIe 80GB"),
        ("Tesla V100-SXM2-16GB", 16945709056, 80, "NVIDIA V100 SXM2"),
        ("Tesla V100-SXM2-32GB", 34089730048, 80, "NVIDIA V100 SXM2"),
        ("AMD Instinct MI300X", 206141652992, 304, "AMD Instinct MI300X"),
        ("AMD Instinct MI300X VF", 205571227648, 304, "AMD Instinct MI300X"),
        ("NVIDIA L4", 23609475072, 58, "NVIDIA L4"),
        ("NVIDIA L40S", 47697362944, 142, "NVIDIA L40S"),
        ("NVIDIA GeForce RTX 4090", 25386352640, 128, "NVIDIA GeForce RTX 4090"),
    ],
)
def test_names_of_real_captures(
    name: str, memory_bytes: int, multiprocessors: int, expected: str
) -> None:
    found = find(device(name, memory_bytes, multiprocessors))
    assert found.hardware is not None, found.reason
    assert found.hardware.name == expected


@pytest.mark.parametrize(
    ("name", "memory_bytes", "reason"),
    [
        ("", 206141652992, "records no device name"),
        ("AMD Radeon Graphics", 68702699520, "no published peaks are known"),
        ("NVIDIA H100", 0, "may be any of: NVIDIA H100 SXM, NVIDIA H100 PCIe"),
        ("NVIDIA H200", 100 * 2**30, "no published peaks are known"),
        ("NVIDIA L40", 0, "no published peaks are known"),
        ("NVIDIA RTX A4000", 0, "no published peaks are known"),
    ],
)
def test_an_unknown_device_says_why(name: str, memory_bytes: int, reason: str) -> None:
    found = find(device(name, memory_bytes))
    assert found.hardware is None
    assert reason in found.reason


@pytest.mark.parametrize(
    ("golden_name", "hardware", "precision"),
    [
        ("HBM ridge A100-80G bf16", "NVIDIA A100 SXM 80GB", "bf16"),
        ("HBM ridge H100 SXM bf16", "NVIDIA H100 SXM", "bf16"),
        ("HBM ridge H200 bf16", "NVIDIA H200 SXM", "bf16"),
        ("HBM ridge B200 bf16", "NVIDIA B200 SXM", "bf16"),
        ("HBM ridge MI300X bf16", "AMD Instinct MI300X", "bf16"),
        ("HBM ridge L4 bf16", "NVIDIA L4", "bf16"),
        ("HBM ridge V100 fp16", "NVIDIA V100 SXM2", "fp16"),
        ("HBM ridge T4 fp16", "NVIDIA T4", "fp16"),
        ("HBM ridge 4090 bf16", "NVIDIA GeForce RTX 4090", "bf16"),
        ("HBM ridge L40S bf16", "NVIDIA L40S", "bf16"),
    ],
)
def test_peaks_give_the_golden_ridges(
    golden: dict[str, dict[str, Any]], golden_name: str, hardware: str, precision: str
) -> None:
    row = next(entry for entry in all_hardware() if entry.name == hardware)
    expected = golden["roofline"][golden_name]["expected"]
    assert row.ridge(precision) == pytest.approx(expected, rel=1e-4)


def test_peaks_are_dense() -> None:
    """A table with a sparse figure shows it here: fp8 is twice, tf32 at most half of bf16."""
    for row in all_hardware():
        peaks = row.matrix_flop_per_s
        half = peaks.get("bf16") or peaks["fp16"]
        if "fp8" in peaks:
            assert peaks["fp8"] == pytest.approx(2 * half, rel=0.02), row.name
        if "tf32" in peaks:
            assert peaks["tf32"] <= 0.51 * half, row.name
        assert row.source and row.ridge("fp16") is not None
        assert row.ridge("fp4") is None

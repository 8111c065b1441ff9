"""Ceilings files, what stands behind them, and sweeps of collectives."""

from dataclasses import replace
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.roofline.ceilings import (
    CollectivePoint,
    Roofs,
    decode,
    encode,
    read,
)
from perfkit.roofline.hardware import Hardware, find
from perfkit.roofline.sweeps import network_ceiling
from perfkit.trace.model import DeviceFacts
from tests.roofline.machines import ceilings


def h200() -> Hardware:
    found = find(DeviceFacts(index=0, name="NVIDIA H200")).hardware
    assert found is not None
    return found


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = ceilings(launch_s=1e-6, cached={1 << 20: 5e11}, network={1: 1e9})
    path = tmp_path / "ceilings.json"
    path.write_bytes(encode(written))
    assert read(path) == written
    assert encode(read(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no ceilings file"),
        (b"{}", "is no ceilings file: Object missing required field"),
        (b'{"traceEvents": []}', "is no ceilings file"),
        (b"\xff\xfe", "is no ceilings file"),
    ],
)
def test_another_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_missing_file_and_another_version_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none.json")
    with pytest.raises(InputError, match="schema version 99"):
        decode(encode(replace(ceilings(), schema_version=99)))


def test_measured_beats_published_and_each_says_which_it_is() -> None:
    measured = ceilings(matrix={"bf16": 7e14}, copy=4e12, device_kind="cuda")
    both = Roofs(measured, h200())
    bf16, fp8, memory, vector = (
        both.matrix("bf16"),
        both.matrix("fp8"),
        both.memory(),
        both.vector(),
    )
    assert bf16 and fp8 and memory and vector
    assert (bf16.value, bf16.source) == (7e14, "measured: made up")
    assert (fp8.value, memory.value) == (1978.9e12, 4e12)
    assert fp8.source.startswith("published: NVIDIA H200 SXM")
    assert vector.value == pytest.approx(66.9e12)
    assert Roofs().matrix("bf16") is None
    assert Roofs(published=h200()).network("all_reduce", 2) is None
    link = Roofs(published=h200()).network("all_reduce", 1)
    assert link and link.value == 450e9


def test_a_cpu_holds_vectors_against_its_fp32_products_and_a_gpu_does_not() -> None:
    cpu = Roofs(ceilings()).vector()
    assert cpu and cpu.value == 1e12
    assert Roofs(ceilings(device_kind="cuda")).vector() is None


def test_a_working_set_is_held_against_the_cache_that_holds_it() -> None:
    under = Roofs(ceilings(cached={1 << 16: 9e11, 1 << 18: 6e11, 1 << 20: 4e11, 1 << 22: 1e11}))
    speeds = [under.cached(size) for size in (1 << 10, 1 << 17, 1 << 20, 1 << 21)]
    assert [roof and roof.value for roof in speeds] == [9e11, 6e11, 4e11, None]
    assert under.fits_cache(1 << 20) and not under.fits_cache(1 << 21)
    assert not Roofs().fits_cache(1)
    assert Roofs(published=h200()).fits_cache(50 << 20)


def test_a_sweep_gives_back_the_network_it_came_from() -> None:
    """T = 100 us + bus bytes / 10 GB/s, ring all-reduce of four ranks."""
    points = [
        CollectivePoint(bytes=size, seconds=1e-4 + 1.5 * size / 10e9)
        for size in (1 << 10, 1 << 20, 1 << 28, 1 << 29, 1 << 30)
    ]
    found = network_ceiling("all_reduce", "gloo", points, ranks=4, nodes=1)
    assert found.bus_bytes_per_s == pytest.approx(10e9, rel=2e-3)
    assert found.alpha_s == pytest.approx(1e-4, rel=1e-3)

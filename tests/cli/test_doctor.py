"""`perfkit doctor`: what each check makes of what it finds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perfkit.cli import doctor
from perfkit.profiler import cgroup
from perfkit.profiler import environment as env
from tests.cli.conftest import Call

TORCH: dict[str, Any] = {
    "version": "2.13.0+cpu",
    "built_for_cuda": None,
    "built_for_rocm": None,
    "devices": [],
    "distributed": True,
    "threads": 2,
}
FACTS: dict[str, Any] = {
    "executable": "/usr/bin/python3",
    "python": "3.11.7",
    "torch": TORCH,
    "nvml": {"error": "NVML Shared Library Not Found"},
}


def with_torch(**changes: object) -> dict[str, Any]:
    return FACTS | {"torch": TORCH | changes}


def test_torch() -> None:
    check = env.torch_check(FACTS)
    assert (check.status, check.remedy) == ("ok", "")
    assert check.found == "2.13.0+cpu in /usr/bin/python3 (Python 3.11.7)"
    assert env.torch_check(with_torch(version="2.1.0a0+git1")).status == "limited"
    assert env.torch_check(with_torch(distributed=False)).status == "limited"
    absent = env.torch_check({"torch": {"error": "No module named 'torch'"}})
    assert (absent.status, bool(absent.remedy)) == ("absent", True)
    assert env.torch_check({}).status == "absent"


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.13.0+cpu", (2, 13)), ("2.6.0a0", (2, 6)), ("3", (3, 0))]
)
def test_release(version: str, numbers: tuple[int, int]) -> None:
    assert env.release(version) == numbers


def test_cuda() -> None:
    check = env.cuda_check(with_torch(devices=["NVIDIA H200", "NVIDIA H200"]))
    assert (check.status, check.found) == ("ok", "2 x NVIDIA H200")


def test_nvml() -> None:
    check = env.nvml_check({"nvml": {"driver": "570.1", "devices": 8}})
    assert (check.status, check.found) == ("ok", "driver 570.1, 8 devices")


def test_threads_beyond_the_processors_are_told() -> None:
    assert env.cpu_check(with_torch(threads=1)).status == "ok"
    check = env.cpu_check(with_torch(threads=100_000))
    assert check.status == "limited"
    assert "OMP_NUM_THREADS" in check.remedy


def test_shared_memory(tmp_path: Path) -> None:
    assert env.shm_check(tmp_path / "nowhere").status == "limited"
    assert str(tmp_path) in env.shm_check(tmp_path).found


def test_an_interface_that_is_not_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    check = env.network_check()
    assert check.status == "limited"
    assert check.remedy.startswith("nosuch0 is not up")


def test_the_probe_tells_of_this_interpreter() -> None:
    facts = env.probe(["/no/such/python", sys.executable])
    assert facts["executable"] == sys.executable
    assert set(facts) == {"executable", "python", "torch", "nvml"}
    assert env.probe(["/no/such/python"]) == {}


def test_every_limited_check_has_a_remedy_below_it() -> None:
    check = env.Check(name="shm", status="limited", found="little", remedy="do this")
    plain = doctor.lines((check,), color=False)
    assert plain == ["limited  shm         little", "                     -> do this"]
    assert "\x1b[33mlimited\x1b[0m" in doctor.lines((check,), color=True)[0]


def test_json_is_json_alone(perfkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    check = env.Check(name="shm", status="ok", found="much")
    monkeypatch.setattr(env, "check_all", lambda: (check,))
    ended = perfkit("doctor", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out) == {
        "schema_version": 1,
        "checks": [{"name": "shm", "status": "ok", "found": "much", "remedy": ""}],
    }


def test_all_checks_run_here(perfkit: Call) -> None:
    ended = perfkit("doctor")
    assert ended.status == 0
    names = ["torch", "CUDA", "NVML", "nsys", "py-spy", "shm", "CPU", "memory"]
    names += ["network", "run folder"]
    assert [line[9:19].strip() for line in ended.out.splitlines() if line[0] != " "] == names
    assert ended.err.startswith("Next: perfkit profile")


def test_the_limits_of_the_control_group_are_said() -> None:
    tight = cgroup.Limits(processors=0.5, memory_bytes=1 << 20)
    check = env.cpu_check(with_torch(threads=8), tight)
    assert check.status == "limited" and "allows the time of 0.5" in check.found
    check = env.memory_check(tight)
    assert check.status == "limited" and "allows 1 MiB" in check.found and check.remedy
    assert env.memory_check(cgroup.Limits()).status == "ok"
    assert env.memory_check(cgroup.Limits(), Path("/nowhere")).status == "limited"


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/job/a", {"job/a/cpu.max": "max 100000", "job/cpu.max": "150000 100000"}, (1.5, None)),
        ("0::/", {"cpu.max": "50000 100000", "memory.max": "max"}, (0.5, None)),
        ("0::/x", {"x/memory.max": "1000", "memory.max": "2000"}, (None, 1000)),
        (
            "4:memory:/m\n2:cpu,cpuacct:/c",
            {
                "memory/m/memory.limit_in_bytes": "4096",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/c/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/c/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            (2.0, 4096),
        ),
        ("nonsense", {}, (None, None)),
    ],
)
def test_limits_of_groups_of_both_kinds(
    tmp_path: Path,
    line: str,
    files: dict[str, str],
    expected: tuple[float | None, int | None],
) -> None:
    (tmp_path / "own").write_text(line + "\n")
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    found = cgroup.limits(tmp_path / "fs", tmp_path / "own")
    assert (found.processors, found.memory_bytes) == expected


def test_an_nsys_that_cannot_be_used_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nsys"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Nsight Systems version 2020.3.4'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    check = env.nsys_check()
    assert check.status == "limited" and "2020.3.4" in check.found and check.remedy
    tool.write_text("#!/bin/sh\necho 'version 2024.6.1 --capture-range-end'\n")
    check = env.nsys_check()
    assert check.status == "ok" and "2024.6.1" in check.found

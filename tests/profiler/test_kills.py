"""Ranks that are killed: what is kept of them, and that all else ends as it would without us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfkit.profiler import oom_kills
from tests.profiler.launching import (
    PATIENT,
    SCRIPTS,
    TORCHRUN,
    RankFolder,
    launchers_report,
    node,
    plain,
    profile,
    ranks,
)

SINGLE = (sys.executable, str(SCRIPTS / "single.py"))
RESTARTED = (*TORCHRUN, "--standalone", "--max-restarts=3", str(SCRIPTS / "killed.py"))
WINDOWS = [[3, 3], [5, 6]]
ENDINGS = [  # one attempt each: step, way, and what torchrun then says of rank 1
    (1, "kill", "exitcode: -9"),  # before any window
    (6, "kill", "exitcode: -9"),  # after the first, inside the second
    (6, "raise", "exitcode: 1"),
    (6, "os._exit", "exitcode: 4"),
]
NEW_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else gloo finds addresses of attempt 0
ENVIRONMENT = {**PATIENT, **NEW_STORE}


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Rank 1 ends badly in every attempt: the run, and what both launches printed."""
    run = tmp_path_factory.mktemp("kills") / "run"
    steps = [str(step) for step, _, _ in ENDINGS]
    command = (*RESTARTED, "--at", *steps, "--how", *(how for _, how, _ in ENDINGS))
    bare = plain(*command, env=ENVIRONMENT)
    ours = profile(run, *command, env=ENVIRONMENT, windows=WINDOWS)
    assert (ours.returncode, ours.stdout) == (bare.returncode, bare.stdout) == (1, bare.stdout)
    return run, bare.stderr, ours.stderr


def of_attempt(run: Path, number: int) -> list[RankFolder]:
    return [rank for rank in ranks(run) if rank.path.parent.name == f"attempt{number}"]


@pytest.mark.real
def test_a_rank_killed_before_any_window(restarted: tuple[Path, str, str]) -> None:
    survivor, killed = of_attempt(restarted[0], 0)
    assert survivor.steps == killed.steps == [0]
    assert survivor.traces == killed.traces == []
    assert killed.records("end") == []
    assert [end["how"] for end in survivor.records("end")] == ["signal:15"]


@pytest.mark.real
def test_a_rank_killed_after_a_window_and_inside_another(restarted: tuple[Path, str, str]) -> None:
    """The survivor was waiting in C code; its last trace holds the step that was complete."""
    survivor, killed = of_attempt(restarted[0], 1)
    assert survivor.steps == killed.steps == list(range(6))
    assert survivor.traces == ["trace-0003-0003.json.gz", "trace-0005-0005.json.gz"]
    assert killed.traces == ["trace-0003-0003.json.gz"]
    assert killed.records("end") == []
    assert [end["how"] for end in survivor.records("end")] == ["signal:15"]


@pytest.mark.real
@pytest.mark.parametrize(("attempt", "how", "status"), [(2, "exception", 1), (3, "os._exit", 4)])
def test_a_rank_that_ends_by_itself_under_torchrun(
    restarted: tuple[Path, str, str], attempt: int, how: str, status: int
) -> None:
    survivor, ended = of_attempt(restarted[0], attempt)
    for rank, end in ((survivor, ("signal:15", None)), (ended, (how, status))):
        assert rank.steps == list(range(6))
        assert rank.traces == ["trace-0003-0003.json.gz", "trace-0005-0005.json.gz"]
        assert [(record["how"], record["status"]) for record in rank.records("end")] == [end]


@pytest.mark.real
def test_the_launchers_report_is_the_same(restarted: tuple[Path, str, str]) -> None:
    """Of every attempt, word for word."""
    _, bare, ours = restarted
    report = launchers_report(bare)
    assert launchers_report(ours) == report
    failed = [line for line in report if line.startswith("failed")]
    assert len(failed) == len(ENDINGS)
    assert all(f"({said})" in line for line, (_, _, said) in zip(failed, ENDINGS, strict=True))
    assert "  exitcode  : -15 (pid: )  (SIGTERM)" in report
    assert any(line.startswith("  exitcode  : 4 (pid: )") for line in report)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that may hold 600 MB; skips where none can be made."""
    base = Path("/sys/fs/cgroup")
    top = base / "memory" if (base / "memory").is_dir() else base
    group = top / f"perfkit-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs the right to make control groups")
    limits = [group / name for name in ("memory.limit_in_bytes", "memory.max")]
    try:
        limit = next((path for path in limits if path.exists()), None)
        if limit is None:
            pytest.skip("needs control groups for memory")
        limit.write_text(str(600 << 20))
        for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
            if (group / name).exists():
                (group / name).write_text("0" if name.endswith("max") else str(600 << 20))
        yield group
    finally:
        group.rmdir()


@pytest.mark.real
@pytest.mark.needs_root
def test_a_process_killed_for_memory(tmp_path: Path, memory_group: Path) -> None:
    command = (*SINGLE, "--end=eat", "--at=6", "--group", str(memory_group))
    ended = profile(tmp_path / "run", *command, windows=[[3, 9]])
    assert ended.returncode == -signal.SIGKILL
    (rank,) = ranks(tmp_path / "run")
    assert (rank.steps, rank.traces, rank.records("end")) == ([0, 1, 2, 3, 4, 5], [], [])
    (warning,) = node(tmp_path / "run")["warnings"]
    assert re.match(r"the kernel killed (a process|\d+ processes) of this machine", warning)


def test_kills_for_memory_are_counted(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    assert oom_kills.count(vmstat) is None
    vmstat.write_text("pgfault 12\noom_kill 7\n")
    assert oom_kills.count(vmstat) == 7
    assert oom_kills.since(7, vmstat) == oom_kills.since(None, vmstat) == ()
    (text,) = oom_kills.since(5, vmstat)
    assert text.startswith("the kernel killed 2 processes of this machine for lack of memory")
    vmstat.write_text("pgfault 12\n")
    assert oom_kills.since(5, vmstat) == ()


@pytest.mark.real
def test_two_runs_at_once_in_one_folder(tmp_path: Path) -> None:
    """Without --out each has a run folder of its own."""
    command = [sys.executable, "-m", "perfkit", "profile", "--analyze=never", "--window=3:5", "--"]
    started = [
        subprocess.Popen([*command, *SINGLE], cwd=tmp_path, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert printed[0] == printed[1] != b""
    first, second = (tmp_path / "perfkit-runs").iterdir()
    for run in (first, second):
        (rank,) = ranks(run)
        assert rank.steps == list(range(8))
        assert rank.traces == ["trace-0003-0005.json.gz"]
    assert node(first)["run_id"] != node(second)["run_id"]

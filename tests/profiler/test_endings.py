"""However a process ends: same status, same output, nothing recorded before is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.profiler import pyspy, rank_folders
from tests.profiler.launching import (
    SCRIPTS,
    TIMEOUT_S,
    TORCHRUN,
    TRAIN,
    clean_environment,
    last_steps,
    node,
    parent_command,
    plain,
    profile,
    ranks,
    until,
)

SINGLE = (sys.executable, str(SCRIPTS / "single.py"))
ENDINGS = [  # how it ends, what is recorded of it, its exit status, its last words
    ("exit3", ("exit", 3), 3, ""),
    ("raise", ("exception", 1), 1, "ValueError: as told"),
    ("own-hook", ("exception", 1), 1, "theirs"),
    ("os._exit", ("os._exit", 4), 4, ""),
    ("SIGTERM", ("signal:15", None), -signal.SIGTERM, ""),
    ("SIGTERM at the end", ("exit", 0), -signal.SIGTERM, ""),
    ("SIGINT", ("exception", 1), -signal.SIGINT, "KeyboardInterrupt"),
    ("own-handler", ("exit", 7), 7, ""),
]


@pytest.fixture(scope="module")
def bare_stdout() -> str:
    """What the command prints in its first six steps when nobody looks."""
    bare = plain(*SINGLE, "--end=raise", "--at=6")
    assert (bare.returncode, bare.stdout.count("\n")) == (1, 6)
    return bare.stdout


@pytest.mark.parametrize(("how", "recorded", "status", "words"), ENDINGS)
def test_a_process_that_ends_inside_the_window(
    tmp_path: Path,
    bare_stdout: str,
    how: str,
    recorded: tuple[str, int | None],
    status: int,
    words: str,
) -> None:
    ended = profile(tmp_path / "run", *SINGLE, "--end", how, "--at=6", windows=[[3, 9]])
    assert (ended.returncode, ended.stdout) == (status, bare_stdout)
    assert ended.stderr.strip().endswith(words)
    (rank,) = ranks(tmp_path / "run")
    assert rank.steps == [0, 1, 2, 3, 4, 5]
    assert rank.traces == ["trace-0003-0005.json.gz"]
    (end,) = rank.records("end")
    assert (end["how"], end["status"]) == recorded
    facts = node(tmp_path / "run")
    assert facts["exit_status"] == (status if status >= 0 else 128 - status)
    assert facts["signal"] == (-status if status < 0 else None)


@pytest.mark.real
def test_a_rank_killed_outright_leaves_every_completed_step(tmp_path: Path) -> None:
    command = (*TORCHRUN, "--standalone", TRAIN, "--end=kill", "--at=5")
    ended = profile(tmp_path / "run", *command, windows=[[1, 2]])
    assert ended.returncode == 1
    assert "exitcode  : -9" in ended.stderr
    survivor, killed = ranks(tmp_path / "run")
    assert killed.steps == survivor.steps == [0, 1, 2, 3, 4]
    assert killed.traces == survivor.traces == ["trace-0001-0002.json.gz"]
    assert killed.records("end") == []
    ends = [end["how"] for end in survivor.records("end")]
    assert ends in (["exception"], ["signal:15"])  # of its lost peer, or torchrun was quicker


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_rank_hangs_in_a_collective(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Rank 1 sleeps, rank 0 waits for it inside backward; the signal goes to perfkit."""
    command = (*TORCHRUN, "--standalone", TRAIN, "--end=hang", "--at=5")
    process = subprocess.Popen(
        parent_command(tmp_path / "run", command, windows=[[3, 9]]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    run = tmp_path / "run"
    until(lambda: last_steps(run) == {0: 4, 1: 4})
    until(lambda: "backward" in functions_of(run, 0) and "end_as_told" in functions_of(run, 1))
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode != 0
    stuck, asleep = ranks(run)
    for rank in (stuck, asleep):
        assert rank.steps == [0, 1, 2, 3, 4]
        assert rank.traces == ["trace-0003-0004.json.gz"], errors
    (end,) = asleep.records("end")
    assert end["how"] == ("signal:15" if number == signal.SIGTERM else "exception")
    assert node(run)["ended_unix_ns"] is not None


def functions_of(run: Path, rank: int) -> set[str]:
    """The Python functions that a running rank's training thread is in."""
    (folder,) = (folder for folder in rank_folders.find(run) if folder.rank == rank)
    stacks, _ = pyspy.stacks(folder.pid)
    main = [thread for thread in stacks or [] if thread.get("thread_name") == "MainThread"]
    return {frame["name"] for thread in main for frame in thread["frames"]}

"""However a process ends: same status, same output, nothing recorded before is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from perfkit.profiler import stopping
from tests.profiler.launching import (
    PATIENT,
    SCRIPTS,
    TIMEOUT_S,
    TORCHRUN,
    TRAIN,
    clean_environment,
    launchers_report,
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


@pytest.mark.parametrize(
    ("how", "recorded", "status"),
    [
        ("watchdog", ("os._exit", 4), 4),
        ("SIGTERM", ("signal:15", None), -signal.SIGTERM),
    ],
)
def test_a_process_that_ends_while_backward_hangs(
    tmp_path: Path, how: str, recorded: tuple[str, int | None], status: int
) -> None:
    """DDP's lock is held then: who asks it for its facts never comes back."""
    script = (sys.executable, str(SCRIPTS / "stuck.py"), f"--store={tmp_path / 'store'}")
    ended = profile(tmp_path / "run", *script, "--end", how, windows=[[3, 4], [6, 9]])
    assert (ended.returncode, ended.stdout) == (status, "0\n1\n2\n3\n4\n5\n")
    (rank,) = ranks(tmp_path / "run")
    assert rank.steps == [0, 1, 2, 3, 4, 5]
    (end,) = rank.records("end")
    assert (end["how"], end["status"]) == recorded
    assert rank.facts["ddp_logging"]["world_size"] == 1  # asked at the end of a window


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_rank_hangs_in_a_collective(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Rank 1 sleeps, rank 0 waits for it inside backward; the signal goes to perfkit."""
    command = (*TORCHRUN, "--standalone", TRAIN, "--end=hang", "--at=5", f"--hangs={tmp_path}")
    bare, said = ended_by(number, command, tmp_path)
    run = tmp_path / "run"
    status, errors = ended_by(number, parent_command(run, command, windows=[[3, 9]]), tmp_path)
    assert status == bare != 0
    assert launchers_report(errors) == launchers_report(said)
    assert f"got signal: {int(number)}" in launchers_report(said)[-1]
    stuck, asleep = ranks(run)
    for rank in (stuck, asleep):
        assert rank.steps == [0, 1, 2, 3, 4]
        assert rank.traces == ["trace-0003-0004.json.gz"], errors
    (end,) = asleep.records("end")
    assert end["how"] == ("signal:15" if number == signal.SIGTERM else "exception")
    assert node(run)["ended_unix_ns"] is not None


def ended_by(number: signal.Signals, command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Start a command, send it a signal once its ranks hang: its exit status and stderr."""
    marks = [folder / "asleep", folder / "in backward"]
    for mark in marks:
        mark.unlink(missing_ok=True)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(**PATIENT),
    )
    until(lambda: all(mark.exists() for mark in marks))
    until(lambda: all(map(sleeps, stopping.descendants(process.pid))))
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, errors


def sleeps(pid: int) -> bool:
    """Whether its main thread sleeps."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    return True

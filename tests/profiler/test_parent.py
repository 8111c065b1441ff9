"""The parent: terminal, environment, signals, exit statuses, errors before the start."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perfkit.errors import SetupError
from perfkit.profiler import run_folder
from tests.profiler.launching import (
    TIMEOUT_S,
    clean_environment,
    node,
    parent_command,
    plain,
    profile,
)


def _script(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "script.py"
    path.write_text(text)
    return sys.executable, str(path)


@pytest.mark.parametrize("status", [0, 3])
def test_the_commands_status_is_ours(tmp_path: Path, status: int) -> None:
    ended = profile(tmp_path / "run", *_script(tmp_path, f"raise SystemExit({status})"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")
    assert node(tmp_path / "run")["exit_status"] == status


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("ray", "job", "submit", "--", "x"), "`ray job submit` has its program started elsewhere"),
        (("sbatch", "job.sh"), "`sbatch` has its program started elsewhere"),
        (("ray", "status"), "no process of the command stepped an optimizer"),
    ],
)
def test_why_there_is_no_rank(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    program = tmp_path / words[0]
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert profile(tmp_path / "run", str(program), *words[1:]).returncode == 0
    (warning,) = node(tmp_path / "run")["warnings"]
    assert warning.startswith(f"no rank was captured: {why}")


def test_the_commands_death_by_signal_is_ours(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ended = profile(tmp_path / "run", *_script(tmp_path, text))
    assert ended.returncode == -signal.SIGKILL
    facts = node(tmp_path / "run")
    assert (facts["exit_status"], facts["signal"]) == (137, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    text = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda n, f: sys.exit(40 + n))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = subprocess.Popen(
        parent_command(tmp_path / "run", _script(tmp_path, text)),
        stdout=subprocess.PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 40 + number


def test_a_key_at_the_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole foreground group; the parent must not send a second one."""
    text = (
        "import signal, sys, time\n"
        "caught = []\n"
        "signal.signal(signal.SIGINT, lambda n, f: caught.append(n))\n"
        "assert sys.stdin.isatty() and sys.stdout.isatty()\n"
        "print('ready', flush=True)\n"
        "while not caught: time.sleep(0.05)\n"
        "time.sleep(1)  # for a second one\n"
        "sys.exit(50 + len(caught))\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        command = parent_command(tmp_path / "run", _script(tmp_path, text))
        os.execve(command[0], command, clean_environment())
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1024)
    time.sleep(0.2)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 51


def test_the_command_finds_its_own_world(tmp_path: Path) -> None:
    """Stdin, extra descriptors, PYTHONPATH, sys.path and the user's sitecustomize are intact."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import sys; sys.user_was_here = True\n")
    text = (
        "import json, os, sys, sitecustomize\n"
        "path = os.environ.get('PYTHONPATH').split(os.pathsep)\n"
        "print(json.dumps([sys.user_was_here, sitecustomize.__file__, path[-1],\n"
        "                  [p for p in sys.path if p.endswith('boot')], sys.stdin.read()]))\n"
    )
    done = subprocess.run(
        parent_command(tmp_path / "run", _script(tmp_path, text)),
        input="typed",
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
        env=clean_environment(PYTHONPATH=str(theirs)),
    )
    found = json.loads(done.stdout)
    assert found == [True, str(theirs / "sitecustomize.py"), str(theirs), [], "typed"]


def test_a_broken_sitecustomize_is_reported_as_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("1 / 0\n")
    command = (*_script(tmp_path, "print('still runs')"),)
    env = {"PYTHONPATH": str(tmp_path)}
    bare = plain(*command, env=env)
    captured = profile(tmp_path / "run", *command, env=env)
    assert captured.stdout == bare.stdout == "still runs\n"
    assert "ZeroDivisionError" in captured.stderr and "ZeroDivisionError" in bare.stderr


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    ended = profile(tmp_path / "run", "no-such-command-anywhere")
    assert ended.returncode == 127
    assert ended.stderr.startswith("command not found: no-such-command-anywhere")
    assert not (tmp_path / "run").exists()


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "empty").write_text("\x7fELF nonsense")
    (tmp_path / "empty").chmod(0o755)
    for name in ("data.txt", "empty"):
        ended = profile(tmp_path / "run", str(tmp_path / name))
        assert ended.returncode == 126
        assert ended.stderr.startswith(f"cannot execute {tmp_path / name}")
        assert ended.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ended = profile(tmp_path / "file" / "run", "true")
    assert ended.returncode == 125
    assert ended.stderr.startswith("cannot write the run folder")
    assert ended.stderr.count("\n") == 1


def test_an_output_that_holds_something_else(tmp_path: Path) -> None:
    ended = profile(tmp_path, "true") if (tmp_path / "x").write_text("x") else None
    assert ended is not None and ended.returncode == 125
    assert "is not empty and is no run folder" in ended.stderr


def test_a_run_folder_is_not_used_twice_by_a_node(tmp_path: Path) -> None:
    assert profile(tmp_path / "run", "true").returncode == 0
    again = profile(tmp_path / "run", "true")
    assert again.returncode == 125
    assert "already holds a run of this node" in again.stderr


def test_of_two_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    """Threads meet in every order, and however they do, one makes the folder."""

    def attempt(_: int) -> str:
        together.wait()
        try:
            return str(run_folder.create(tmp_path / "run", ["true"], "node"))
        except SetupError as error:
            return str(error)

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        told = sorted(pool.map(attempt, range(4)))
    assert told[0] == str(tmp_path / "run")
    assert all("already holds a run of this node" in text for text in told[1:])


def test_another_node_joins_the_run_folder(tmp_path: Path) -> None:
    for rank in ("0", "1"):
        assert profile(tmp_path / "run", "true", env={"GROUP_RANK": rank}).returncode == 0
    documents = [json.loads(p.read_bytes()) for p in (tmp_path / "run").glob("nodes/*/run.json")]
    assert {d["node"] for d in documents} == {"0", "1"}
    assert len({d["run_id"] for d in documents}) == 1


def test_a_failure_of_ours_is_a_warning_of_the_run(tmp_path: Path) -> None:
    """A run folder that vanishes under the ranks costs the record, not the training."""
    run = tmp_path / "run"
    text = (
        "import os, torch\n"
        "open(os.path.join(os.environ['PERFKIT_RUN_DIR'], 'attempt0'), 'w').close()\n"
        "w = torch.nn.Parameter(torch.ones(2)); w.sum().backward()\n"
        "torch.optim.SGD([w], lr=1.0).step(); print(w.tolist())\n"
    )
    done = profile(run, *_script(tmp_path, text))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0.0, 0.0]\n", "")
    (warning,) = node(run)["warnings"]
    assert "a rank was not captured" in warning

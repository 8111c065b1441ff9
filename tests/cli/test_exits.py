"""Errors become one line and an exit status, in one place."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfkit import errors
from perfkit.cli import exits


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UsageError, 2),
        (errors.InputError, 3),
        (errors.SetupError, 125),
        (errors.GateError, 1),
    ],
)
def test_an_error_of_ours_is_one_line(
    kind: type[errors.PerfkitError], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.run(lambda: fail(kind("x.json: not\n a trace", hint="name\nanother"))) == status
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "perfkit: x.json: not a trace; name another\n")


def test_a_bug_is_one_line_and_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.run(lambda: fail(KeyError("Ext id"))) == 70
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    path = re.search(r"\S+perfkit-bug-\S+\.log", shown.err)
    assert path is not None
    log = Path(path[0])
    try:
        assert "Traceback" in log.read_text()
        assert "KeyError: 'Ext id'" in log.read_text()
    finally:
        log.unlink()


def test_a_bug_without_a_place_for_its_log_is_still_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    assert exits.run(lambda: fail(ZeroDivisionError("division by zero"))) == 70
    assert capsys.readouterr().err == (
        "perfkit: internal error: ZeroDivisionError: division by zero; "
        "its traceback could not be logged: No space left on device\n"
    )


def test_an_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.run(lambda: fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "perfkit: interrupted\n"


def test_success_is_0() -> None:
    assert exits.run(lambda: None) == 0


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL", "SIGSEGV", "SIGABRT"])
def test_ending_by_a_signal(name: str) -> None:
    number = int(signal.Signals[name])
    done = run_python(f"from perfkit.cli import exits; exits.end_by_signal({number})")
    assert (done.returncode, done.stderr) == (-number, "")


def test_a_reader_that_goes_away_ends_us_as_it_ends_any_filter() -> None:
    done = run_python(
        "import os, sys\n"
        "reading, writing = os.pipe()\n"
        "os.dup2(writing, 1); os.close(writing); os.close(reading)\n"
        "from perfkit.cli import main\n"
        "main(['schema'])"
    )
    assert done.returncode == -signal.SIGPIPE
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_experiment_that_is_ended_says_how_it_goes_on(number: signal.Signals) -> None:
    said: list[str] = []
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # a shell may have started us with it ignored
    try:
        with pytest.raises(KeyboardInterrupt), exits.resumable(lambda: said.append("it goes on")):
            os.kill(os.getpid(), number)
            time.sleep(30)  # until Python delivers it
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)
    assert said == ["it goes on"]


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with exits.resumable(lambda: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

"""Progress and colour appear on a terminal only."""

import io
import os
import pty
import subprocess
import sys

import pytest

from perfkit.cli import console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_color(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colored: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert console.has_color(Terminal()) is colored
    assert not console.has_color(io.StringIO())


def test_width_of_what_is_no_terminal() -> None:
    assert console.width(io.StringIO()) == console.DEFAULT_WIDTH


CODE = """
import sys, time
from perfkit.cli import console
console.QUIET_SECONDS = 0.05
shown, write = [], sys.stderr.write
sys.stderr.write = lambda text: (shown.append(text), write(text))[1]

def wait_for(text):
    time.sleep(0.2)
    while sys.stderr.isatty() and text not in "".join(shown):
        time.sleep(0.01)

with console.progress("thinking") as show:
    wait_for("thinking")
    show("writing")
    wait_for("writing")
"""


def test_progress_is_silent_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_progress_shows_on_a_terminal_and_is_cleared() -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
            timeout=60,
        )
        shown = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b""
    assert shown.index("perfkit: thinking") < shown.index("perfkit: writing")
    assert shown.endswith("\r\x1b[K")

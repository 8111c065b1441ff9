"""Progress and colour appear on a terminal only, and leave whole lines whole."""

import contextlib
import io
import os
import pty
import subprocess
import sys

import pytest

from perfkit.cli import console, folding


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


def test_width_of_what_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console.width(io.StringIO()) == console.DEFAULT_WIDTH
    monkeypatch.setenv("COLUMNS", "60")
    assert console.width(io.StringIO()) == 60
    monkeypatch.setenv("COLUMNS", "wide")
    assert console.width(io.StringIO()) == console.DEFAULT_WIDTH


LONG = "\x1b[32mok\x1b[0m       torch       2.13.0 in /opt/a/long/path/bin/python3 (Python 3.11)"


@pytest.mark.parametrize(
    ("line", "width", "folded"),
    [
        ("fits as it is", 13, "fits as it is"),
        ("  one two three four", 12, "  one two\n    three\n    four"),
        ("name   many words of text", 20, "name   many words of\n       text"),
        ("a b", 2, "a\n b"),
        ("/a/path/that/stays/whole and more", 10, "/a/path/that/stays/whole\n  and more"),
        ("", 5, ""),
        (
            LONG,
            50,
            "\x1b[32mok\x1b[0m       torch       2.13.0 in\n"
            "                     /opt/a/long/path/bin/python3\n"
            "                     (Python 3.11)",
        ),
    ],
)
def test_lines_fold_below_their_last_column(line: str, width: int, folded: str) -> None:
    assert folding.fold(line, width) == folded
    assert "".join(folding.fold(line, width).split()) == "".join(line.split())


def test_results_are_folded_for_columns_and_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console.tell("word " * 40)
    assert capsys.readouterr().out.count("\n") == 1
    monkeypatch.setenv("COLUMNS", "50")
    console.tell("word " * 40)
    assert max(map(len, capsys.readouterr().out.split("\n"))) <= 50


CODE = """
import sys, time
from perfkit.cli import console, status_line
status_line.QUIET_SECONDS = 0.05
shown, write = [], sys.stderr.write
sys.stderr.write = lambda text: (shown.append(text), write(text))[1]

def wait_for(text):
    time.sleep(0.2)
    while sys.stderr.isatty() and text not in "".join(shown):
        time.sleep(0.01)

with console.progress("thinking") as show:
    wait_for("thinking")
    with console.progress("reading"):
        wait_for("reading")
        console.say("found one")
    show("writing" + " much" * 100)
    wait_for("writing")
"""


def test_progress_is_silent_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=250
    )
    assert (done.stdout, done.stderr) == ("", "perfkit: found one\n")


def test_progress_shows_on_a_terminal_and_is_cleared() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=theirs
    ) as child:
        os.close(theirs)
        shown = read_all(ours).decode()
        assert (child.communicate(timeout=250)[0], child.returncode) == (b"", 0)
    order = [shown.index(f"perfkit: {text}") for text in ("thinking", "reading", "writing")]
    assert order == sorted(order)
    assert "\r\x1b[Kperfkit: found one\r\n" in shown  # a line of its own
    assert shown.endswith("\r\x1b[K")
    columns = max(len(line) for line in shown.replace("\x1b[K", "").split("\r"))
    assert columns < console.DEFAULT_WIDTH  # what wraps could not be cleared


def read_all(terminal: int) -> bytes:
    """Return what is written to a terminal until its other side is closed."""
    found = b""
    with contextlib.suppress(OSError):  # how a terminal says that it is closed
        while chunk := os.read(terminal, 4096):
            found += chunk
    os.close(terminal)
    return found

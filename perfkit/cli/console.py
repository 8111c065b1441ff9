"""What a command writes besides its result: progress, the next step, the shape of the terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from perfkit.cli import folding
from perfkit.cli.status_line import StatusLine

DEFAULT_WIDTH = 100


def say(line: str) -> None:
    """Write one line to stderr."""
    _make_room()
    print(f"perfkit: {line}", file=sys.stderr)


def suggest(line: str) -> None:
    """Name the next command to run, on stderr."""
    _make_room()
    print(f"Next: {line}", file=sys.stderr)


def goes_on(home: Path) -> None:
    """Say that an interrupted experiment can be taken up again."""
    suggest(f"the same line with --out {shown(home)} goes on from here")


def tell(text: str) -> None:
    """Write a result to stdout, folded to the terminal's width or to COLUMNS; whole to a pipe."""
    if sys.stdout.isatty() or _wanted():
        text = folding.fold(text, width(sys.stdout))
    _make_room()
    print(text)


def tell_json(document: object) -> None:
    """Write a result to stdout as JSON and nothing else, for programs."""
    import msgspec

    content = msgspec.json.format(msgspec.json.encode(document), indent=1)
    _make_room()
    sys.stdout.flush()
    sys.stdout.buffer.write(content + b"\n")
    sys.stdout.flush()


def _wanted() -> int:
    """Return the columns that the user's COLUMNS asks for, 0 if it asks for none."""
    value = os.environ.get("COLUMNS", "")
    return int(value) if value.isdecimal() else 0


def width(stream: TextIO) -> int:
    """Return the columns that COLUMNS asks for, of the terminal behind a stream, or a default."""
    if wanted := _wanted():
        return wanted
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def has_color(stream: TextIO) -> bool:
    """Tell whether a stream should be coloured: a terminal, and nobody objects."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def shown(path: Path) -> str:
    """Return a path as short as it can be given on a command line here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal's stderr that work which takes over a second is going on.

    Yields a function that changes the text. Work inside work shows its own text meanwhile.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    line = _status[-1] if _status else StatusLine(width(sys.stderr))
    _status[:] = [line]
    work = line.begin(what)

    def show(text: str) -> None:
        work.text = text

    try:
        yield show
    finally:
        line.end(work)
        if line.idle:
            _status.clear()


def _make_room() -> None:
    for line in _status:
        line.clear()


_status: list[StatusLine] = []
"""The terminal's, while something is going on."""

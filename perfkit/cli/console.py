"""What a command writes besides its result: progress, the next step, the shape of the terminal."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from perfkit.cli import folding

QUIET_SECONDS = 1.0
DEFAULT_WIDTH = 100


def say(line: str) -> None:
    """Write one line to stderr."""
    print(f"perfkit: {line}", file=sys.stderr)


def suggest(line: str) -> None:
    """Name the next command to run, on stderr."""
    print(f"Next: {line}", file=sys.stderr)


def goes_on(home: Path) -> None:
    """Say that an interrupted experiment can be taken up again."""
    suggest(f"the same line with --out {shown(home)} goes on from here")


def tell(text: str) -> None:
    """Write a result to stdout, folded to the terminal's width or to COLUMNS; whole to a pipe."""
    if sys.stdout.isatty() or _wanted():
        text = folding.fold(text, width(sys.stdout))
    print(text)


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

    Yields a function that changes the text.
    """
    line = [what]

    def show(text: str) -> None:
        line[0] = text

    if not sys.stderr.isatty():
        yield show
        return
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(line, done), daemon=True)
    ticker.start()
    try:
        yield show
    finally:
        done.set()
        ticker.join()


def _tick(line: list[str], done: threading.Event) -> None:
    """Rewrite one line every second until done, then clear it."""
    seconds = 0
    while not done.wait(QUIET_SECONDS):
        seconds += 1
        sys.stderr.write(f"\r\x1b[Kperfkit: {line[0]} ({seconds} s)")
        sys.stderr.flush()
    if seconds:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

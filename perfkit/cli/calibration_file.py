"""A calibration file: one line of JSON for each thing learnt, read whole and appended to."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from perfkit.cli import console
from perfkit.errors import InputError, writing

Line = TypeVar("Line")


def read(file: Path, decode: Callable[[bytes], tuple[Line, ...]], *, of: str) -> tuple[Line, ...]:
    """Return the lines of a file, none where there is no file; `of`: what each is for.

    Raises InputError if the file cannot be read or decoded.
    """
    import msgspec

    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise InputError(
            f"{console.shown(file)}: not a calibration file: {error}",
            hint=f"one line of JSON for each {of}; name another file with --calibration",
        ) from error


def append(file: Path, lines: bytes) -> None:
    """Append encoded lines, making the file's folder. Raises InputError."""
    with writing(console.shown(file), hint="name another file with --calibration"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(lines)

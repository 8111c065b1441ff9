"""The file of `perfkit compare --calibration`: reading it, adding runs that differ in nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.cli import console
from perfkit.errors import InputError

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis
    from perfkit.analyzers.run_spread import Replicates


def read(file: Path) -> "tuple[Replicates, ...]":
    """Return the lines of a file, none where there is no file. Raises InputError."""
    import msgspec

    from perfkit.analyzers.run_spread import decode

    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise InputError(
            f"{console.shown(file)}: not a calibration file: {error}",
            hint="one line of JSON for each set of runs; name another file with --calibration",
        ) from error


def add(file: Path, arms: "Sequence[Sequence[Analysis]]", known: "Sequence[Replicates]") -> None:
    """Append each side that has several runs and is not there yet. Raises InputError."""
    from perfkit.analyzers.run_spread import encode, replicates

    there = {run for line in known for run in line.runs}
    lines = [line for arm in arms if (line := replicates(arm)) and not there & set(line.runs)]
    if not lines:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(b"".join(map(encode, lines)))
    except OSError as error:
        raise InputError(
            f"{console.shown(file)}: cannot be written: {error.strerror}",
            hint="name another file with --calibration",
        ) from error

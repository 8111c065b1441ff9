"""The file of `perfkit compare --calibration`: reading it, adding runs that differ in nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.cli import calibration_file

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis
    from perfkit.analyzers.run_spread import Replicates


def read(file: Path) -> "tuple[Replicates, ...]":
    """Return the lines of a file, none where there is no file. Raises InputError."""
    from perfkit.analyzers.run_spread import decode

    return calibration_file.read(file, decode, of="set of runs")


def add(file: Path, arms: "Sequence[Sequence[Analysis]]", known: "Sequence[Replicates]") -> None:
    """Append each side that has several runs and is not there yet. Raises InputError."""
    from perfkit.analyzers.run_spread import encode, replicates

    there = {run for line in known for run in line.runs}
    lines = [line for arm in arms if (line := replicates(arm)) and not there & set(line.runs)]
    if not lines:
        return
    calibration_file.append(file, b"".join(map(encode, lines)))

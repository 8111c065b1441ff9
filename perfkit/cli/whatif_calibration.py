"""The calibration file of `perfkit whatif`: where it lies, reading it, adding to it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit import units
from perfkit.cli import calibration_file, console

if TYPE_CHECKING:
    from perfkit.analyzers.calibration import Expected, Pair
    from perfkit.analyzers.whatif import Answer


def default_file() -> Path:
    """Return the user's file; it need not exist."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "perfkit" / "whatif.jsonl"


def read(file: Path) -> "tuple[Pair, ...]":
    """Return the pairs of a file, none where there is no file. Raises InputError."""
    from perfkit.analyzers.calibration import decode

    return calibration_file.read(file, decode, of="prediction")


def add(file: Path, answer: "Answer", measured_ms: float) -> None:
    """Append what was measured after a predicted change. Raises InputError."""
    from perfkit.analyzers.calibration import Pair, encode

    pair = Pair(
        options=answer.options,
        before_ms=answer.step_ms,
        predicted_ms=answer.predicted_ms,
        measured_ms=measured_ms,
    )
    calibration_file.append(file, encode(pair))


def measured(answer: "Answer", measured_ms: float, file: Path) -> list[str]:
    """Return the lines that hold a prediction against its measurement."""
    error = answer.predicted_ms / measured_ms - 1
    return [
        "",
        f"Measured afterwards: {units.milliseconds(measured_ms)}; the prediction was "
        f"{units.change(error)} off. Kept in {console.shown(file)}.",
    ]


def trust(expected: "Expected") -> str:
    """Return how far the prediction may be off, and what that rests on."""
    size = units.percent(expected.error)
    if expected.unknown:
        kinds = ", ".join(expected.unknown)
        return (
            f"Predicted by replay, not measured: expect +-{size} of the step, because {kinds} has "
            "hardly been compared with measurements here (do so with --after)."
        )
    return (
        f"Predicted by replay, not measured: expect +-{size} of the step; {expected.pairs} "
        f"predictions of this kind were {units.percent(expected.median)} off in the median."
    )


def overall(pairs: "Sequence[Pair]") -> str:
    """Return how far predictions of any kind have been off, for a list of many kinds."""
    if not pairs:
        return (
            "Predicted by replay, not measured: expect +-10% of the step until a change of the "
            "kind has been measured here (--after)."
        )
    errors = sorted(abs(pair.error) for pair in pairs)
    return (
        f"Predicted by replay, not measured: {len(errors)} predictions were compared with "
        f"measurements so far, the worst was {units.percent(errors[-1])} off; +-10% for kinds "
        "that were not."
    )

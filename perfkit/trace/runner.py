"""How a command is run again and again: what is asked of a runner, and what it answers.

`scale`, `optimize` and `faults` get one handed in by the command line; profiler/experiment.py is
the one that launches real runs. A trial that has finished is never run twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One launch of a command. `name` is unique in an experiment and names the run's folder."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside our own


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a trial ended. `run` is its run folder; only one that ended `ok` should be analysed."""

    trial: Trial
    run: Path
    ok: bool
    reason: str = ""  # why it failed, in words; "" if it did not
    log: Path | None = None  # what the command printed
    seconds: float = 0.0
    remembered: bool = False  # finished in an earlier call: not run now


class Runner(Protocol):
    """Runs trials one after the other, in the order given."""

    def run(self, trials: Sequence[Trial]) -> Iterator[Ended]:
        """Yield how each trial ended, as it ends. A failed trial does not stop the others."""


def interleaved(points: Sequence[Sequence[Trial]]) -> list[Trial]:
    """Order the repetitions of several points so that slow drifts of the machine hit all alike.

    One repetition of every point, then the next of every point, every second round backwards.
    """
    rounds = max((len(repeats) for repeats in points), default=0)
    order: list[Trial] = []
    for number in range(rounds):
        this = [repeats[number] for repeats in points if number < len(repeats)]
        order += this if number % 2 == 0 else this[::-1]
    return order

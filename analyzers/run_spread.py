"""How much the step time of one program differs from run to run: the A/A calibration.

Runs that nobody changed in between are replicates of one thing. Their spread, kept in a file, gives
two single runs an interval that their own steps cannot give: steps of one run are no replicates.
"""

from collections.abc import Sequence
from math import log, sqrt

import msgspec
import numpy as np

from perfkit.analyzers.result import Analysis


class Replicates(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one program that differ in nothing; one line of the calibration file."""

    program: str  # the command, as recorded
    ranks: int
    hosts: tuple[str, ...]
    runs: tuple[str, ...]  # their ids
    step_ms: tuple[float, ...]  # the median step of each


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The deviation of the logarithm of the step time between runs, with its degrees of freedom."""

    sd: float
    freedom: int
    runs: int


def replicates(runs: Sequence[Analysis]) -> Replicates | None:
    """Return the runs as a line of calibration; None unless they are several runs of one thing."""
    steps = [run.steps.median_ms for run in runs]
    told = {(a.run.command, a.world.size, tuple(sorted(a.run.hosts))) for a in runs}
    if len(runs) < 2 or len(told) > 1 or not runs[0].run.command or None in steps:
        return None
    program, ranks, hosts = told.pop()
    return Replicates(
        program=program,
        ranks=ranks,
        hosts=hosts,
        runs=tuple(a.run.run_id for a in runs),
        step_ms=tuple(ms for ms in steps if ms is not None),
    )


def spread_for(run: Analysis, known: Sequence[Replicates]) -> Spread | None:
    """Pool the deviation of all replicates of this run's program, ranks and hosts; None without."""
    key = (run.run.command, run.world.size, tuple(sorted(run.run.hosts)))
    squares, freedom, count = 0.0, 0, 0
    for line in known:
        if (line.program, line.ranks, line.hosts) == key and len(line.step_ms) > 1:
            logs = np.array([log(ms) for ms in line.step_ms])
            squares += float(((logs - logs.mean()) ** 2).sum())
            freedom += len(logs) - 1
            count += len(logs)
    return Spread(sd=sqrt(squares / freedom), freedom=freedom, runs=count) if freedom else None


def encode(line: Replicates) -> bytes:
    """Return the line of a calibration file, with its end."""
    return msgspec.json.encode(line) + b"\n"


def decode(text: bytes) -> tuple[Replicates, ...]:
    """Return the lines of a calibration file. Raises msgspec.MsgspecError."""
    return tuple(msgspec.json.decode(line, type=Replicates) for line in text.splitlines() if line)

"""The numbers of a trial: reads numerics.jsonl of each rank's folder (profiler/inrank/numerics.py).

A line is one of
  {"k":"loss","i":step,"v":value}                       one backward pass
  {"k":"gradient","i":step,"norm":L2,"sample":[...]}    every tenth step; the sample at step 0 only
  {"k":"end","sample":[...],"peak_bytes":n}             parameters; peak_bytes on devices only
What is not finite is null there and NaN here.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from perfkit.trace.model import RankRecord, Run

FILE = "numerics.jsonl"
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankNumbers:
    """What one rank computed. Arrays are empty where nothing was seen."""

    rank: int
    losses: F64  # mean over the backward passes of a step, by step; NaN where it had none
    norms: dict[int, float]  # step -> L2 norm of all gradients
    gradient: F64  # sampled elements at step 0
    parameters: F64  # the same at the end
    peak_bytes: int | None


class _Line(msgspec.Struct, frozen=True):
    k: str
    i: int = 0
    v: float | None = None
    norm: float | None = None
    sample: list[float | None] | None = None
    peak_bytes: int | None = None


def read_numbers(run: Run) -> tuple[RankNumbers, ...]:
    """Return what each rank recorded; nothing for ranks that recorded nothing."""
    found = (_read(record) for record in run.ranks)
    return tuple(numbers for numbers in found if numbers is not None)


def _read(record: RankRecord) -> RankNumbers | None:
    lines = _lines(record.folder / FILE)
    if not lines:
        return None
    first = next((x for x in lines if x.k == "gradient" and x.sample is not None), None)
    last = next((x for x in reversed(lines) if x.k == "end"), None)
    return RankNumbers(
        rank=record.rank,
        losses=_by_step(lines),
        norms={x.i: np.nan if x.norm is None else x.norm for x in lines if x.k == "gradient"},
        gradient=_array(first),
        parameters=_array(last),
        peak_bytes=None if last is None else last.peak_bytes,
    )


def _by_step(lines: list[_Line]) -> F64:
    """Average the losses of each step."""
    seen = [(x.i, np.nan if x.v is None else x.v) for x in lines if x.k == "loss"]
    if not seen:
        return np.empty(0)
    total, count = np.zeros(max(i for i, _ in seen) + 1), np.zeros(max(i for i, _ in seen) + 1)
    for step, value in seen:
        total[step] += value
        count[step] += 1
    means: F64 = np.full(len(total), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def _array(line: _Line | None) -> F64:
    values = line.sample if line is not None and line.sample is not None else []
    return np.array([np.nan if x is None else x for x in values], dtype=np.float64)


def _lines(path: Path) -> list[_Line]:
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found = []
    for line in content.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=_Line))
        except msgspec.MsgspecError:
            continue  # a torn last line
    return found

"""Reads every attempt of a run that was restarted, with the losses that `perfkit faults` notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfkit.trace.model import StepLines
from perfkit.trace.runfolder import attempt_numbers, attempt_ranks
from perfkit.trace.steplines import no_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A rank that was killed on purpose."""

    rank: int
    step: int  # the last that it completed, counted from 0
    at_ns: int  # Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAttempt:
    """One rank process of one attempt. Times are Unix ns."""

    rank: int
    lines: StepLines  # counted from 0 in every attempt
    losses: dict[int, float]  # by step; the mean over its backward passes
    process_started_ns: int | None
    death: Death | None
    ended: str  # as in RankRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """All ranks of one attempt, by rank."""

    number: int
    ranks: tuple[RankAttempt, ...]

    @property
    def steps(self) -> int:
        """Steps that every rank completed."""
        return min((len(rank.lines.index) for rank in self.ranks), default=0)


class _Record(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="k", default="")
    step: int = msgspec.field(name="i", default=-1)
    unix: int = msgspec.field(name="u", default=0)
    values: tuple[str, ...] = msgspec.field(name="v", default=())


_DECODER = msgspec.json.Decoder(_Record)


def read_attempts(path: Path) -> tuple[Attempt, ...]:
    """Return the attempts of the run folder `path`, in order. Raises InputError if unreadable."""
    found = []
    for number in sorted(attempt_numbers(path)):
        records = attempt_ranks(path, number)
        ranks = sorted(
            (_rank(r.folder, r.rank, r.lines, r.ended) for r in records), key=lambda r: r.rank
        )
        found.append(Attempt(number=number, ranks=tuple(ranks)))
    return tuple(found)


def _rank(folder: Path, rank: int, lines: StepLines, ended: str) -> RankAttempt:
    records = _records(folder / "steps.jsonl")
    started = [r.unix for r in records if r.kind == "process"]
    killed = [r for r in records if r.kind == "killed"]
    return RankAttempt(
        rank=rank,
        lines=lines if len(lines.index) else no_steps(),
        losses={r.step: _mean(r.values) for r in records if r.kind == "loss" and r.values},
        process_started_ns=started[0] if started else None,
        death=Death(rank=rank, step=killed[0].step, at_ns=killed[0].unix) if killed else None,
        ended=ended,
    )


def _mean(values: Sequence[str]) -> float:
    return sum(map(float, values)) / len(values)


def _records(path: Path) -> list[_Record]:
    """Return the records that can be read; a torn last line is expected after a kill."""
    found = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            found.append(_DECODER.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return found

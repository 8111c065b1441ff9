"""Which reader a file needs: the one place that tells formats of traces apart."""

import re
from dataclasses import dataclass
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.kineto import peek, read_kineto
from perfkit.trace.kineto_merged import find_ranks, looks_merged
from perfkit.trace.model import NONE, RankTrace
from perfkit.trace.nsys import peek_nsys, read_nsys
from perfkit.trace.nsys_db import is_sqlite


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One rank's part of a file, as far as the file says without being read."""

    rank: int = NONE
    world_size: int = 0
    host: str = ""
    backend: str = ""
    process: int = NONE  # which process of the file; NONE: the file holds one


def peek_trace(path: Path) -> tuple[Part, ...]:
    """Return the ranks that a file holds, at least one. Raises InputError if it is no trace."""
    return _peek_nsys(path) if is_sqlite(path) else _peek_kineto(path)


def _peek_kineto(path: Path) -> tuple[Part, ...]:
    facts = peek(path)
    if looks_merged(path, says_rank=facts.rank != NONE):
        ranks = find_ranks(path)
        if ranks:
            size = max(facts.world_size, len(ranks))
            return tuple(
                Part(rank=one.rank, world_size=size, backend=facts.backend, process=place)
                for place, one in enumerate(ranks)
            )
    only = Part(
        rank=facts.rank, world_size=facts.world_size, host=facts.host, backend=facts.backend
    )
    return (only,)


def _peek_nsys(path: Path) -> tuple[Part, ...]:
    export = peek_nsys(path)
    known = export.membership
    if len(export.processes) > 1:  # the environment is the launcher's: its rank is nobody's here
        return tuple(Part(process=process.key) for process in export.processes)
    return (Part(rank=known.rank, world_size=known.world_size, process=export.processes[0].key),)


def read_trace(path: Path, process: int, step_pattern: str) -> RankTrace:
    """Return what a file says of one of its ranks.

    `process` is of `peek_trace`; `step_pattern` is a regular expression for the ranges that are
    steps, "" for those that are commonly known. Raises InputError if nothing can be read.
    """
    pattern = re.compile(step_pattern) if step_pattern else None
    if is_sqlite(path):
        return read_nsys(path, process, pattern)
    if process == NONE:
        return read_kineto(path, pattern=pattern)
    ranks = find_ranks(path)
    if process >= len(ranks):
        raise InputError(f"{path}: has changed while it was read", hint="run the command again")
    return read_kineto(path, pattern=pattern, processes=ranks[process].processes)

"""Sees any traces of others as a run: files and folders, one rank or many."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.formats import Part, peek_trace
from perfkit.trace.model import MAX_RANKS, NONE, Issue, RankRecord, Run
from perfkit.trace.nsys_report import REPORT_SUFFIXES, unexported
from perfkit.trace.steplines import no_steps

_SUFFIXES = (".json", ".json.gz", ".sqlite", ".sqlite.gz")
_RANK_IN_NAME = re.compile(r"(?:rank|worker)[-_. ]?(\d+)", re.IGNORECASE)
_TIMES_IN_NAME = re.compile(r"_step_\d+|\.\d{10,}")


@dataclass(frozen=True, slots=True)
class _Part:
    """One rank's part of a file: a Kineto trace is one part, an Nsight export one a process."""

    path: Path
    facts: Part
    rank: int  # NONE until it is known or guessed


def read_foreign(
    paths: Sequence[Path], *, step_pattern: str = "", ranks: Mapping[Path, int] | None = None
) -> Run:
    """Return a run made of traces. A file given by name must be a trace; a folder is searched.

    `ranks` are those that the user gave for some of the paths; `step_pattern` names the ranges that
    are steps. Raises InputError if there is no trace, or if a named file is none.
    """
    parts: list[_Part] = []
    skipped: list[InputError] = []
    for path in paths:
        if path.is_dir():
            _search(path, parts, skipped)
        else:
            parts += _with_rank(_peeked(path), (ranks or {}).get(path, NONE))
    if not parts:
        raise _no_traces(paths, skipped)
    found, issues = _by_rank(parts)
    records = tuple(replace(record, step_pattern=step_pattern) for record in found)
    if skipped:
        issues.append(_skipped(skipped))
    return Run(
        run_id=paths[0].name,
        path=None,
        ranks=records,
        issues=tuple(issues) + _missing(records),
    )


def _search(folder: Path, parts: list[_Part], skipped: list[InputError]) -> None:
    # Links to folders are not followed, so that a loop of links ends.
    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            if name.endswith(REPORT_SUFFIXES):
                skipped += unexported(Path(place, name))
            if not name.endswith(_SUFFIXES) or not _may_be_read(Path(place, name)):
                continue
            try:
                parts += _peeked(Path(place, name))
            except InputError as error:
                skipped.append(error)


def _may_be_read(path: Path) -> bool:
    """Whether reading ends: not of a pipe, a socket or a device; what links nowhere is named."""
    return path.is_file() or not path.exists()


def _with_rank(parts: list[_Part], rank: int) -> list[_Part]:
    """Return a file's part with the rank that the user gave, if one was given."""
    if rank == NONE:
        return parts
    if len(parts) > 1:
        raise InputError(
            f"{parts[0].path}: holds {len(parts)} ranks, not rank {rank} alone",
            hint="give it without a rank",
        )
    return [replace(parts[0], rank=rank)]


def _peeked(path: Path) -> list[_Part]:
    parts = peek_trace(path)
    rank = parts[0].rank
    if rank == NONE and len(parts) == 1:
        named = _RANK_IN_NAME.findall(path.name) or _RANK_IN_NAME.findall(path.parent.name)
        rank = int(named[-1]) if named and len(named[-1]) < 8 else NONE
        rank = rank if rank < MAX_RANKS else NONE
    return [_Part(path, part, rank if len(parts) == 1 else part.rank) for part in parts]


def _by_rank(parts: list[_Part]) -> tuple[tuple[RankRecord, ...], list[Issue]]:
    issues = _mixed(parts)
    issues += _guesses(parts)
    by_rank: dict[int, list[_Part]] = defaultdict(list)
    for part in _with_guesses(parts):
        by_rank[part.rank].append(part)
    size = max([len(by_rank), *(part.facts.world_size for part in parts)])
    records = [_record(rank, by_rank[rank], size, issues) for rank in sorted(by_rank)]
    return tuple(records), issues


def _guesses(parts: list[_Part]) -> list[Issue]:
    """Say how the ranks of parts that do not name theirs are numbered."""
    unknown = [part for part in parts if part.rank == NONE]
    if not unknown:
        return []
    inside = [part for part in unknown if part.facts.process != NONE]
    if len(parts) == 1:
        message = "the trace does not say its rank: it is taken for rank 0"
    elif len(inside) == len(unknown):
        message = (
            f"{len(unknown)} processes do not say their rank: numbered by file, device and "
            "process id"
        )
    else:
        message = f"{len(unknown)} traces do not say their rank: numbered by order of name"
    severity = "info" if len(parts) == 1 else "warning"
    return [Issue(code="RANK_GUESSED", severity=severity, message=message)]


def _with_guesses(parts: list[_Part]) -> list[_Part]:
    taken = {part.rank for part in parts}
    free = (rank for rank in range(len(parts) + len(taken) + 1) if rank not in taken)
    return [p if p.rank != NONE else replace(p, rank=next(free)) for p in parts]


def _record(rank: int, parts: list[_Part], size: int, issues: list[Issue]) -> RankRecord:
    """Several files of one rank are windows of one process if only times differ in their names."""
    processes: dict[tuple[Path, str, int], list[_Part]] = defaultdict(list)
    for part in parts:
        name = _TIMES_IN_NAME.sub("", part.path.name)
        processes[part.path.parent, name, part.facts.process].append(part)
    chosen = next(iter(processes.values()))
    if len(processes) > 1:
        issues.append(
            Issue(
                code="DUPLICATE_RANKS",
                severity="warning",
                message=f"{len(processes)} traces say that they are rank {rank}; "
                f"only {chosen[0].path.name} is analysed",
                ranks=(rank,),
            )
        )
    facts = chosen[0].facts
    return RankRecord(
        rank=rank,
        world_size=size,
        attempt=0,
        folder=chosen[0].path.parent,
        facts={"hostname": facts.host, "backend": facts.backend},
        lines=no_steps(),
        traces=tuple(part.path for part in chosen),
        ended="exit",
        process=facts.process,
    )


def _mixed(parts: list[_Part]) -> list[Issue]:
    sizes = sorted({part.facts.world_size for part in parts if part.facts.world_size > 0})
    if len(sizes) < 2:
        return []
    return [
        Issue(
            code="MIXED_RUNS",
            severity="warning",
            message="the traces are of jobs of different size "
            f"({', '.join(map(str, sizes))} ranks): they are not one run",
        )
    ]


def _missing(ranks: Sequence[RankRecord]) -> tuple[Issue, ...]:
    size = max(record.world_size for record in ranks)
    absent = tuple(sorted(set(range(min(size, MAX_RANKS))) - {record.rank for record in ranks}))
    if not absent:
        return ()
    return (
        Issue(
            code="RANKS_MISSING",
            severity="warning",
            message=f"{len(absent)} of the job's {size} ranks have no trace here: "
            "waits for them cannot be explained",
            ranks=absent,
        ),
    )


def _skipped(errors: list[InputError]) -> Issue:
    return Issue(
        code="FILES_SKIPPED",
        severity="info",
        message=f"{len(errors)} files are no traces and were skipped; "
        f"the first: {errors[0].message}",
    )


def _no_traces(paths: Sequence[Path], skipped: list[InputError]) -> InputError:
    where = ", ".join(map(str, paths[:3]))
    hint = "give a perfkit run folder, torch.profiler traces, or Nsight exports (.sqlite)"
    if skipped:
        return InputError(
            f"{where}: {len(skipped)} files, none of them a trace; the first: {skipped[0].message}",
            hint=hint,
        )
    return InputError(f"{where}: no run and no *.json, *.json.gz or *.sqlite in it", hint=hint)

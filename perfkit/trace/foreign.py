"""Sees any torch.profiler traces as a run: files, folders and globs, one rank or many."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.kineto import peek
from perfkit.trace.kineto_schema import TraceFacts
from perfkit.trace.model import NONE, Issue, RankRecord, Run
from perfkit.trace.runfolder import MAX_RANKS
from perfkit.trace.steplines import no_steps

_SUFFIXES = (".json", ".json.gz")
_RANK_IN_NAME = re.compile(r"(?:rank|worker)[-_. ]?(\d+)", re.IGNORECASE)
_TIMES_IN_NAME = re.compile(r"_step_\d+|\.\d{10,}")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    facts: TraceFacts
    rank: int  # NONE until it is known or guessed


def expand(patterns: Sequence[Path | str]) -> list[Path]:
    """Return the files and folders that the arguments name, in order, each once.

    Raises InputError for one that matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.exists() or path.is_symlink():
            found[path] = None
            continue
        matches = sorted(glob.glob(str(pattern), recursive=True))
        if not matches:
            raise InputError(f"{pattern}: no such file or folder", hint="check the path")
        found |= dict.fromkeys(map(Path, matches))
    return list(found)


def read_foreign(paths: Sequence[Path]) -> Run:
    """Return a run made of traces. A file given by name must be a trace; a folder is searched.

    Raises InputError if there is no trace, or if a named file is none.
    """
    files: list[_File] = []
    skipped: list[InputError] = []
    for path in paths:
        if path.is_dir():
            _search(path, files, skipped)
        else:
            files.append(_peeked(path))
    if not files:
        raise _no_traces(paths, skipped)
    ranks, issues = _by_rank(files)
    if skipped:
        issues.append(_skipped(skipped))
    return Run(
        run_id=paths[0].name,
        path=None,
        ranks=ranks,
        issues=tuple(issues) + _missing(ranks),
    )


def _search(folder: Path, files: list[_File], skipped: list[InputError]) -> None:
    # Links to folders are not followed, so that a loop of links ends.
    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(_SUFFIXES):
                continue
            try:
                files.append(_peeked(Path(place, name)))
            except InputError as error:
                skipped.append(error)


def _peeked(path: Path) -> _File:
    facts = peek(path)
    rank = facts.rank
    if rank == NONE:
        named = _RANK_IN_NAME.findall(path.name) or _RANK_IN_NAME.findall(path.parent.name)
        rank = int(named[-1]) if named and int(named[-1]) < MAX_RANKS else NONE
    return _File(path, facts, rank)


def _by_rank(files: list[_File]) -> tuple[tuple[RankRecord, ...], list[Issue]]:
    issues = _mixed(files)
    files, guessed = _with_guesses(files)
    by_rank: dict[int, list[_File]] = defaultdict(list)
    for file in files:
        by_rank[file.rank].append(file)
    if guessed:
        issues.append(
            Issue(
                code="RANK_GUESSED",
                severity="info" if len(files) == 1 else "warning",
                message=f"{guessed} traces do not say their rank: numbered by order of name",
            )
        )
    size = max([len(by_rank), *(file.facts.world_size for file in files)])
    records = [_record(rank, by_rank[rank], size, issues) for rank in sorted(by_rank)]
    return tuple(records), issues


def _with_guesses(files: list[_File]) -> tuple[list[_File], int]:
    taken = {file.rank for file in files}
    free = (rank for rank in range(len(files) + len(taken) + 1) if rank not in taken)
    known = [f if f.rank != NONE else _File(f.path, f.facts, next(free)) for f in files]
    return known, sum(file.rank == NONE for file in files)


def _record(rank: int, files: list[_File], size: int, issues: list[Issue]) -> RankRecord:
    """Several files of one rank are windows of one process if only times differ in their names."""
    processes: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for file in files:
        processes[file.path.parent, _TIMES_IN_NAME.sub("", file.path.name)].append(file)
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
        traces=tuple(file.path for file in chosen),
        ended="exit",
    )


def _mixed(files: list[_File]) -> list[Issue]:
    sizes = sorted({file.facts.world_size for file in files if file.facts.world_size > 0})
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
    hint = "give a perfkit run folder, or traces that torch.profiler wrote"
    if skipped:
        return InputError(
            f"{where}: {len(skipped)} JSON files, none of them a trace; "
            f"the first: {skipped[0].message}",
            hint=hint,
        )
    return InputError(f"{where}: no run and no *.json or *.json.gz in it", hint=hint)

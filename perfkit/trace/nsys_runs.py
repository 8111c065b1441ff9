"""Gives the ranks of a run folder their part of the node's Nsight export (RUN/nsys/).

An export tells processes apart by their process id, which facts.json knows as well; the file's name
says of which launching parent it is: trace-0010-0019.NODE.sqlite.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.model import Issue, RankRecord
from perfkit.trace.nsys import peek_nsys
from perfkit.trace.nsys_processes import PID_BITS

_PID = (1 << PID_BITS) - 1


def with_exports(records: Sequence[RankRecord], folders: Sequence[Path]) -> list[RankRecord]:
    """Return the ranks; those without a trace of their own have their node's export, if any."""
    exports = sorted(path for folder in folders for path in (folder / "nsys").glob("*.sqlite"))
    if not exports:
        return list(records)
    known: dict[Path, dict[int, int] | InputError] = {path: _processes(path) for path in exports}
    return [r if r.traces else _with_export(r, known) for r in records]


def _processes(path: Path) -> dict[int, int] | InputError:
    """Return the key of each process in an export by process id, or why there is none."""
    try:
        return {process.key & _PID: process.key for process in peek_nsys(path).processes}
    except InputError as error:
        return error


def _with_export(record: RankRecord, known: dict[Path, dict[int, int] | InputError]) -> RankRecord:
    node, pid = str(record.facts.get("parent_node", "")), record.facts.get("pid")
    for path, processes in known.items():
        if not path.name.endswith(f".{node}.sqlite"):
            continue
        if isinstance(processes, InputError):
            issue = Issue(
                code="TRACE_UNREADABLE",
                severity="warning",
                message=processes.message,
                ranks=(record.rank,),
            )
            return replace(record, issues=(*record.issues, issue))
        if isinstance(pid, int) and pid & _PID in processes:
            return replace(record, traces=(path,), process=processes[pid & _PID])
    return record

"""What reading one Kineto file dropped, clamped or guessed, as issues of the capture."""

import re
from collections.abc import Iterator
from pathlib import Path

from perfkit.trace.event_table import Table
from perfkit.trace.kineto_columns import Extras
from perfkit.trace.kineto_schema import TraceFacts
from perfkit.trace.kineto_text import TraceText
from perfkit.trace.model import Issue
from perfkit.trace.table_quality import issue, of_links, of_steps, of_values, worst_first


def issues_of(
    path: Path,
    text: TraceText,
    facts: TraceFacts,
    extras: Extras,
    *,
    table: Table,
    pattern: re.Pattern[str] | None,
) -> tuple[Issue, ...]:
    """Return the issues of one file, worst first."""
    name = path.name
    found = [
        *_of_text(name, text),
        *of_values(name, table.counts, extras.bad_times),
        *of_links(name, table.counts),
        *_of_document(name, facts, table),
        *of_steps(name, table, pattern),
    ]
    return worst_first(found)


def _of_text(name: str, text: TraceText) -> Iterator[Issue]:
    if text.truncated:
        yield issue(
            "TRACE_TRUNCATED",
            "warning",
            f"{name} ends early: what stands before the break was read, later events are missing",
        )
    if text.garbage:
        yield issue("TRAILING_GARBAGE", "info", f"{name}: bytes after its end were ignored")
    if text.dropped:
        yield issue(
            "EVENTS_UNREADABLE",
            "warning",
            f"{name}: {text.dropped} events are no valid JSON and were left out",
        )
    if text.bad_metadata:
        yield issue(
            "METADATA_UNREADABLE",
            "warning",
            f"{name}: the head of the file is damaged; rank, devices and groups may be missing",
        )


def _of_document(name: str, facts: TraceFacts, table: Table) -> Iterator[Issue]:
    relative = int(table.events.start_ns[0]) < 10**18
    if facts.base_ns is None and relative:
        yield issue(
            "NO_TIME_BASE",
            "info",
            f"{name}: the date is not recorded; its times cannot be compared with other files'",
        )
    if table.counts.processes > 1:
        yield issue(
            "SEVERAL_PROCESSES",
            "error",
            f"{name}: holds operators of {table.counts.processes} processes that cannot be told "
            "apart: give each rank's own file, or name the processes 'rank 0', 'rank 1', ...",
        )

"""What reading one Kineto file dropped, clamped or guessed, as issues of the capture."""

from collections.abc import Iterator
from pathlib import Path

from perfkit.trace.event_table import Table
from perfkit.trace.kineto_columns import Extras
from perfkit.trace.kineto_schema import TraceFacts
from perfkit.trace.kineto_text import TraceText
from perfkit.trace.model import Issue


def issues_of(
    path: Path, text: TraceText, facts: TraceFacts, extras: Extras, table: Table
) -> tuple[Issue, ...]:
    """Return the issues of one file, worst first."""
    name = path.name
    found = [
        *_of_text(name, text),
        *_of_values(name, extras, table),
        *_of_links(name, table),
        *_of_document(name, facts, table),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda issue: order[issue.severity]))


def _issue(code: str, severity: str, message: str) -> Issue:
    return Issue(code=code, severity=severity, message=message)


def _of_text(name: str, text: TraceText) -> Iterator[Issue]:
    if text.truncated:
        yield _issue(
            "TRACE_TRUNCATED",
            "warning",
            f"{name} ends early: what stands before the break was read, later events are missing",
        )
    if text.garbage:
        yield _issue("TRAILING_GARBAGE", "info", f"{name}: bytes after its end were ignored")
    if text.dropped:
        yield _issue(
            "EVENTS_UNREADABLE",
            "warning",
            f"{name}: {text.dropped} events are no valid JSON and were left out",
        )
    if text.bad_metadata:
        yield _issue(
            "METADATA_UNREADABLE",
            "warning",
            f"{name}: the head of the file is damaged; rank, devices and groups may be missing",
        )


def _of_values(name: str, extras: Extras, table: Table) -> Iterator[Issue]:
    counts = table.counts
    bad = counts.absurd_time + extras.bad_times
    if bad:
        yield _issue(
            "EVENTS_OUT_OF_TIME",
            "warning",
            f"{name}: {bad} events with impossible times were left out",
        )
    if counts.negative_duration:
        yield _issue(
            "NEGATIVE_DURATIONS",
            "warning",
            f"{name}: {counts.negative_duration} negative durations count as zero",
        )
    if counts.unknown_category:
        kinds = ", ".join(repr(text) for text in counts.unknown_categories[:5])
        yield _issue(
            "EVENTS_UNKNOWN",
            "info",
            f"{name}: {counts.unknown_category} events of unknown categories "
            f"({kinds}) were left out",
        )


def _of_links(name: str, table: Table) -> Iterator[Issue]:
    counts = table.counts
    if counts.without_launch:
        share = counts.without_launch / counts.device_work
        yield _issue(
            "LAUNCHES_MISSING",
            "warning" if share > 0.1 else "info",
            f"{name}: {counts.without_launch} of {counts.device_work} device events "
            f"({share:.1%}) have no launch call in the capture: they belong to no step",
        )
    if counts.before_launch:
        yield _issue(
            "STARTS_BEFORE_LAUNCH",
            "info",
            f"{name}: {counts.before_launch} device events start before their launch call "
            "(clocks of host and device differ by that much)",
        )
    if counts.by_containment:
        yield _issue(
            "LINKED_BY_CONTAINMENT",
            "info",
            f"{name}: External id repeats the correlation and links no operator "
            "(PyTorch before 2.3); the innermost operator on the launching thread is taken",
        )


def _of_document(name: str, facts: TraceFacts, table: Table) -> Iterator[Issue]:
    relative = int(table.events.start_ns[0]) < 10**18
    if facts.base_ns is None and relative:
        yield _issue(
            "NO_TIME_BASE",
            "info",
            f"{name}: the date is not recorded; its times cannot be compared with other files'",
        )
    if table.counts.processes > 1:
        yield _issue(
            "SEVERAL_PROCESSES",
            "error",
            f"{name}: holds operators of {table.counts.processes} processes; merged ranks cannot "
            "be told apart: give each rank's own file",
        )
    if table.steps.source == "whole":
        yield _issue(
            "NO_STEPS",
            "info",
            f"{name}: no ProfilerStep ranges; the whole capture counts as one step",
        )

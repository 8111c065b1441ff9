"""What making the event table of a file dropped, clamped or guessed, as issues of the capture."""

import re
from collections.abc import Iterable, Iterator

from perfkit.trace.event_table import Counts, Table
from perfkit.trace.model import Issue

_ORDER = {"error": 0, "warning": 1, "info": 2}


def issue(code: str, severity: str, message: str) -> Issue:
    """Return an issue of no particular rank yet."""
    return Issue(code=code, severity=severity, message=message)


def worst_first(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    """Return the issues in order of severity, otherwise as they came."""
    return tuple(sorted(issues, key=lambda one: _ORDER[one.severity]))


def of_values(name: str, counts: Counts, bad_times: int = 0) -> Iterator[Issue]:
    """Yield what was wrong with times and categories; `bad_times` never reached the table."""
    bad = counts.absurd_time + bad_times
    if bad:
        yield issue(
            "EVENTS_OUT_OF_TIME",
            "warning",
            f"{name}: {bad} events with impossible times were left out",
        )
    if counts.negative_duration:
        yield issue(
            "NEGATIVE_DURATIONS",
            "warning",
            f"{name}: {counts.negative_duration} negative durations count as zero",
        )
    if counts.unknown_category:
        kinds = ", ".join(repr(text) for text in counts.unknown_categories[:5])
        yield issue(
            "EVENTS_UNKNOWN",
            "info",
            f"{name}: {counts.unknown_category} events of unknown categories "
            f"({kinds}) were left out",
        )


def of_links(name: str, counts: Counts) -> Iterator[Issue]:
    """Yield what is missing or guessed of the links between device, host and operators."""
    if counts.without_launch:
        share = counts.without_launch / counts.device_work
        yield issue(
            "LAUNCHES_MISSING",
            "warning" if share > 0.1 else "info",
            f"{name}: {counts.without_launch} of {counts.device_work} device events "
            f"({share:.1%}) have no launch call in the capture: they belong to no step",
        )
    if counts.before_launch:
        yield issue(
            "STARTS_BEFORE_LAUNCH",
            "info",
            f"{name}: {counts.before_launch} device events start before their launch call "
            "(clocks of host and device differ by that much)",
        )
    if counts.by_containment:
        yield issue(
            "LINKED_BY_CONTAINMENT",
            "info",
            f"{name}: External id repeats the correlation and links no operator "
            "(PyTorch before 2.3); the innermost operator on the launching thread is taken",
        )


def of_steps(name: str, table: Table, pattern: re.Pattern[str] | None) -> Iterator[Issue]:
    """Yield whether steps were found, and whether those were that the user named."""
    steps = table.steps
    if pattern is not None and not any(map(pattern.search, table.events.names)):
        instead = (
            "the whole capture counts as one step"
            if steps.source == "whole"
            else f"{len(steps.index)} steps were found by other ranges"
        )
        yield issue(
            "STEP_PATTERN_UNMATCHED",
            "warning",
            f"{name}: no range matches the step pattern {pattern.pattern!r}; {instead}",
        )
    elif steps.source == "whole":
        yield issue(
            "NO_STEPS",
            "info",
            f"{name}: no ranges that mark steps; the whole capture counts as one step "
            "(name yours with --step-nvtx REGEX)",
        )

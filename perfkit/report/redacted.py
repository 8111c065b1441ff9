"""An analysis with its hosts, users, paths and arguments replaced by aliases."""

from typing import Any

import msgspec

from perfkit.analyzers.result import Analysis
from perfkit.trace.redaction import Redaction

_OWN_SOURCE = "attempt"  # begins the files of a run folder, which perfkit named itself
_FREE_TEXT = frozenset({"message", "evidence", "why", "title"})  # may quote what a program said


def redacted(analysis: Analysis, redaction: Redaction) -> Analysis:
    """Return `analysis` as it may be shown to others. Numbers and classes stay what they are."""
    document = _walk(msgspec.to_builtins(analysis), redaction, "")
    run = document["run"]
    run["command"] = redaction.command(analysis.run.command)
    run["hosts"] = [redaction.host(host) for host in analysis.run.hosts]
    run["sources"] = [_source(source, redaction) for source in analysis.run.sources]
    return msgspec.convert(document, Analysis)


def _source(source: str, redaction: Redaction) -> str:
    return redaction.text(source) if source.startswith(_OWN_SOURCE) else redaction.path(source)


def _walk(value: Any, redaction: Redaction, field: str) -> Any:
    if isinstance(value, str):
        return redaction.message(value) if field in _FREE_TEXT else redaction.text(value)
    if isinstance(value, list | tuple):
        return [_walk(one, redaction, field) for one in value]
    if isinstance(value, dict):
        return {key: _walk(one, redaction, str(key)) for key, one in value.items()}
    return value

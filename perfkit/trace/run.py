"""Opens a run, whatever it was given as, and loads one rank's trace at a time."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from perfkit.errors import InputError
from perfkit.trace import cache as trace_cache
from perfkit.trace.collectives import no_collectives
from perfkit.trace.flight import join, read_entries
from perfkit.trace.foreign import read_foreign
from perfkit.trace.formats import read_trace
from perfkit.trace.inputs import find_inputs, user_cache
from perfkit.trace.kinds import Kind
from perfkit.trace.kineto_schema import parse_ranks
from perfkit.trace.merge import merge_traces, no_events, no_windows, with_spans
from perfkit.trace.model import (
    NONE,
    Issue,
    ProcessGroup,
    RankRecord,
    RankTrace,
    Run,
    StepLines,
    StepWindows,
)
from perfkit.trace.renumbering import renumbered
from perfkit.trace.runfolder import (
    as_int,
    is_programs_own,
    is_run_folder,
    read_runs,
    trace_window,
)

OWN_RECORDERS = frozenset({"input_wait", "checkpoint", "gc", "compile"})


def open_run(paths: Sequence[Path | str], *, step_pattern: str = "") -> Run:
    """Return the run that the paths name: a run folder, folders of several nodes, or any traces.

    A path may be a file, a folder, a pattern such as `traces/*.json.gz`, an archive or a URL, and
    `3=trace.json` for a trace that does not say that it is rank 3's.
    `step_pattern` is a regular expression: in foreign traces, the ranges whose names it matches are
    the steps. Reads step lines and facts, and of traces only the head. Raises InputError with what
    is wrong, where, and what next.
    """
    try:
        return _opened(paths, step_pattern)
    except OSError as error:
        where = error.filename or ", ".join(map(str, paths))
        raise InputError(
            f"{where}: cannot be read: {error.strerror or error}",
            hint="check its permissions and those of the folders above it",
        ) from error


def _opened(paths: Sequence[Path | str], step_pattern: str) -> Run:
    inputs = find_inputs(paths, user_cache())
    if not inputs:
        raise InputError("nothing to read", hint="give a run folder or trace files")
    own = [item for item in inputs if item.path.is_dir() and is_run_folder(item.path)]
    if not own:
        ranks = {item.path: item.rank for item in inputs}
        return read_foreign(list(ranks), step_pattern=step_pattern, ranks=ranks)
    if len(own) < len(inputs):
        other = next(item.path for item in inputs if item not in own)
        raise InputError(
            f"{other}: not a run folder, given together with one",
            hint="analyse run folders and foreign traces one after the other",
        )
    run = read_runs([item.path for item in own])
    return replace(run, path=None) if own[0].is_copy else run


def cache_folder(run: Run) -> Path:
    """Return where reading keeps its results: the run's cache/, else the user's cache folder."""
    if run.path is not None and os.access(run.path, os.W_OK):
        return run.path / "cache"
    return user_cache()


def load_rank(record: RankRecord, *, cache: Path | None) -> RankTrace:
    """Return everything that one rank's trace files say.

    `cache` is a folder for Parquet copies (`cache_folder`), None for none. A rank without a trace
    gives one without events and steps. Raises InputError if a foreign rank cannot be read at all;
    in a run folder that is an issue.
    """
    own = bool(record.facts.get("schema_version")) or len(record.lines.index) > 0
    parts: list[RankTrace] = []
    unreadable: list[InputError] = []
    for path in record.traces:
        try:
            parts.append(_read(path, record, cache, is_own=own))
        except InputError as error:
            unreadable.append(error)
    if unreadable and not parts and not own:
        raise unreadable[0]
    trace = merge_traces(parts) if parts else _without_trace(record)
    issues = trace.issues + tuple(_unreadable(error) for error in unreadable)
    trace = replace(trace, issues=issues, rank=record.rank, world_size=record.world_size)
    trace = _with_facts(trace, record) if own else _foreign(trace, record)
    return replace(trace, issues=tuple(_of_rank(issue, record) for issue in trace.issues))


def _of_rank(issue: Issue, record: RankRecord) -> Issue:
    """Say whose trace it is: names of trace files are long and tell little."""
    message = issue.message
    for path in record.traces:
        whose = f"rank {record.rank}'s trace" if len(record.traces) == 1 else path.name
        message = message.replace(str(path), whose).replace(path.name, whose)
    return replace(issue, message=message, ranks=issue.ranks or (record.rank,))


def _read(path: Path, record: RankRecord, cache: Path | None, *, is_own: bool) -> RankTrace:
    view = (record.process, record.step_pattern)
    key = trace_cache.key_of(path, *(view if view != (NONE, "") else ()))
    kept = trace_cache.load(cache, key, path) if cache is not None and key else None
    trace = kept or read_trace(path, record.process, record.step_pattern)
    if cache is not None and key and kept is None:
        trace_cache.store(cache, key, trace)
    window = trace_window(path) if is_own else None
    if window is None:
        return trace
    steps = trace.steps
    analysed = (steps.index >= window[0]) & (steps.index <= window[1])
    return replace(trace, steps=replace(steps, complete=steps.complete & analysed))


def _unreadable(error: InputError) -> Issue:
    return Issue(code="TRACE_UNREADABLE", severity="error", message=error.message)


def _without_trace(record: RankRecord) -> RankTrace:
    return RankTrace(
        rank=record.rank,
        world_size=record.world_size,
        events=no_events(),
        collectives=no_collectives(),
        groups=(),
        steps=no_windows(),
        training_threads=(),
        device_kind=str(record.facts.get("device_kind", "cpu")),
        device=as_int(record.facts.get("device"), NONE),
        devices=(),
        node="",
        clock_domain="",
        has_shapes=False,
        sources=(),
        recorders=frozenset(),
    )


def _foreign(trace: RankTrace, record: RankRecord) -> RankTrace:
    """Without a boot id only ranks of one session or of one host by name surely share a clock."""
    host = trace.node or str(record.facts.get("hostname") or "")
    domain = trace.clock_domain or (f"host:{host}" if host else f"rank:{record.rank}")
    return replace(trace, node=host, clock_domain=domain)


def _with_facts(trace: RankTrace, record: RankRecord) -> RankTrace:
    """Add what the run folder knows and the trace does not."""
    facts = record.facts
    if any(map(is_programs_own, record.traces)):
        trace = renumbered(trace, record.lines)
    trace = replace(
        trace,
        node=str(facts.get("node", "")),
        clock_domain=str(facts.get("clock_domain", "")),
        device_kind=str(facts.get("device_kind") or trace.device_kind),
        device=as_int(facts.get("device"), trace.device),
        groups=_groups(trace.groups, facts.get("process_groups")),
        training_threads=_threads(trace.training_threads, facts.get("training_thread")),
        steps=_steps(trace.steps, record.lines),
        recorders=trace.recorders | OWN_RECORDERS,
    )
    entries = read_entries(record.folder / "collectives.jsonl")
    trace = join(trace, entries, trace.profiled)
    trace = with_spans(trace, record.lines.gc, Kind.GC, "gc")
    return with_spans(trace, record.lines.compile, Kind.COMPILE, "compile")


def _threads(found: tuple[int, ...], training: object) -> tuple[int, ...]:
    first = as_int(training, NONE)
    return found if first == NONE else (first, *(t for t in found if t != first))


def _groups(known: tuple[ProcessGroup, ...], facts: object) -> tuple[ProcessGroup, ...]:
    """Return the trace's groups, with ranks from the facts where it lacks them, then the others."""
    said: dict[str, ProcessGroup] = {}
    for entry in facts if isinstance(facts, list) else []:
        if isinstance(entry, dict):
            group = ProcessGroup(
                name=str(entry.get("name", "")),
                description=str(entry.get("description", "")),
                ranks=parse_ranks(entry.get("ranks")),
                backend=str(entry.get("backend") or ""),
            )
            said[group.name] = group
    full = tuple(said.get(group.name, group) if not group.ranks else group for group in known)
    names = {group.name for group in full}
    return full + tuple(group for name, group in said.items() if name not in names)


def _steps(steps: StepWindows, lines: StepLines) -> StepWindows:
    """A step that has no line was cut short: the process ended inside it."""
    if steps.source == "whole":
        return steps
    lined = np.isin(steps.index, lines.index)
    evaluating = np.isin(steps.index, lines.index[lines.has_eval])
    return replace(steps, complete=steps.complete & lined, has_eval=evaluating, source="perfkit")

"""Finds what a run folder holds: attempts, ranks, nodes (docs/run-folder.md), live or closed."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from perfkit.errors import InputError
from perfkit.trace import nsys_runs
from perfkit.trace.model import MAX_RANKS, NONE, Issue, NodeRecord, RankRecord, Run
from perfkit.trace.steplines import StepFile, read_step_file
from perfkit.trace.telemetry import read_telemetry

_ATTEMPT = re.compile(r"attempt(\d+)")
_RANK = re.compile(r"rank(\d+)(?:\.(.*))?")
_TRACE = re.compile(r"trace-(\d+)-(\d+)\.json(?:\.gz)?")
_OWN = re.compile(r"own-\d+\.json(?:\.gz)?")
_EXPORT = re.compile(r"trace-(\d+)-(\d+)\..+\.sqlite")


def is_run_folder(path: Path) -> bool:
    """Whether a folder looks like one that `perfkit profile` made."""
    return (path / "nodes").is_dir() or bool(_attempts(path))


def read_runs(paths: Sequence[Path]) -> Run:
    """Return one run from one run folder, or from the folders of several nodes.

    Only the last attempt is analysed. Raises InputError if there is no rank at all.
    """
    nodes = tuple(node for path in paths for node in _nodes(path))
    last = max((number for path in paths for number in _attempts(path)), default=NONE)
    if last == NONE:
        raise InputError(
            f"{paths[0]}: a run folder without any rank: {_why_no_rank(nodes)}",
            hint="see the warnings in nodes/*/run.json, and profile the run again",
        )
    running = any(node.facts.get("ended_unix_ns") is None for node in nodes)
    found = [_rank(folder, last, running) for path in paths for folder in _ranks(path, last)]
    named = nsys_runs.with_exports([record for record in found if record is not None], paths)
    ranks, issues = _one_each(named)
    if not ranks:
        raise InputError(
            f"{paths[0]}: attempt {last} holds no rank that recorded anything",
            hint="profile the run again; see the warnings in nodes/*/run.json",
        )
    return Run(
        run_id=_run_id(paths[0], ranks, nodes),
        path=paths[0],
        ranks=ranks,
        nodes=nodes,
        attempts=last + 1,
        issues=(*issues, *_missing(ranks), *_without_traces(ranks)),
    )


def attempt_numbers(path: Path) -> list[int]:
    """Return the numbers of the attempts that a run folder holds. Raises InputError."""
    return _attempts(path)


def attempt_ranks(path: Path, attempt: int) -> list[RankRecord]:
    """Return the rank processes of one attempt of a closed run. Raises InputError."""
    found = [_rank(folder, attempt, running=False) for folder in _ranks(path, attempt)]
    return [record for record in found if record is not None]


def read_object(path: Path) -> dict[str, object]:
    """Return the object in a JSON file, {} where it is missing or damaged."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def trace_window(path: Path) -> tuple[int, int] | None:
    """Return the first and last step that a trace's name promises, None if it promises none."""
    found = _TRACE.fullmatch(path.name) or _EXPORT.fullmatch(path.name)
    return (int(found[1]), int(found[2])) if found else None


def as_int(value: object, default: int) -> int:
    """Return an int from a JSON value."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _attempts(path: Path) -> list[int]:
    found = ((_ATTEMPT.fullmatch(entry.name), entry) for entry in _entries(path))
    return [int(match[1]) for match, entry in found if match and entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


def _nodes(path: Path) -> list[NodeRecord]:
    folders = [entry for entry in _entries(path / "nodes") if entry.is_dir()]
    return [
        NodeRecord(
            node=folder.name,
            facts=read_object(folder / "run.json"),
            telemetry=read_telemetry(folder / "telemetry.jsonl"),
        )
        for folder in folders
    ]


def _ranks(path: Path, attempt: int) -> list[Path]:
    entries = _entries(path / f"attempt{attempt}")
    return [entry for entry in entries if _RANK.fullmatch(entry.name) and entry.is_dir()]


def _rank(folder: Path, attempt: int, running: bool) -> RankRecord | None:
    """Return one rank process, None if its folder holds nothing yet."""
    facts = read_object(folder / "facts.json")
    steps = read_step_file(_streams(folder, facts) / "steps.jsonl")
    traces = _traces(folder)
    if not facts and not len(steps.lines.index) and not traces:
        return None
    match = _RANK.fullmatch(folder.name)
    by_name = int(match[1]) if match else NONE
    return RankRecord(
        rank=as_int(facts.get("rank"), by_name),
        world_size=as_int(facts.get("world_size"), 0),
        attempt=attempt,
        folder=folder,
        facts=facts,
        lines=steps.lines,
        traces=tuple(path for path in traces if not _saw(path, steps.clock_set)),
        ended=steps.ended or ("running" if running else "killed"),
        issues=_rank_issues(by_name, facts, steps, running),
    )


def _streams(folder: Path, facts: dict[str, object]) -> Path:
    """Return where a rank's streams lie: on this machine's local disk while the rank runs there."""
    local = facts.get("stream_folder")
    if not isinstance(local, str) or (folder / "steps.jsonl").exists():
        return folder
    return Path(local)


def _traces(folder: Path) -> tuple[Path, ...]:
    """Return the rank's traces by window; a packed file replaces its plain twin.

    Where perfkit wrote none, these are the first trace of the program's own profiler.
    """
    found: dict[str, Path] = {}
    own: list[Path] = []
    for entry in _entries(folder):
        if _TRACE.fullmatch(entry.name):
            found[entry.name.removesuffix(".gz")] = entry  # "x.json.gz" sorts behind "x.json"
        elif _OWN.fullmatch(entry.name):
            own.append(entry)
    return tuple(found[name] for name in sorted(found)) or tuple(own[:1])


def _saw(trace: Path, steps: Sequence[int]) -> bool:
    """Whether a trace was being recorded in one of `steps`: from the one before its window on."""
    match = _TRACE.fullmatch(trace.name)
    return match is not None and any(int(match[1]) - 1 <= s <= int(match[2]) for s in steps)


def is_programs_own(path: Path) -> bool:
    """Whether a rank's trace is of the program's own profiler, which counts steps its own way."""
    return _OWN.fullmatch(path.name) is not None


def _rank_issues(
    rank: int, facts: dict[str, object], steps: StepFile, running: bool
) -> tuple[Issue, ...]:
    issues = list(steps.issues)
    if not facts:
        issues.append(
            Issue(
                code="FACTS_MISSING",
                severity="warning",
                message=f"rank {rank}: facts.json is missing or damaged",
            )
        )
    if steps.out_of_memory:
        issues.append(
            Issue(
                code="RANK_OUT_OF_MEMORY",
                severity="warning",
                message=f"rank {rank} ran out of memory: {steps.out_of_memory}",
            )
        )
    if steps.exception:
        issues.append(
            Issue(
                code="RANK_FAILED",
                severity="info",
                message=f"rank {rank} ended by an exception: {steps.exception}",
            )
        )
    elif not steps.ended and not running:
        last = f"after step {steps.lines.index[-1]}" if len(steps.lines.index) else "early"
        issues.append(
            Issue(
                code="RANK_KILLED",
                severity="warning",
                message=f"rank {rank} was killed {last}: it left no end record",
            )
        )
    for text in steps.warnings:
        issues.append(
            Issue(code="CAPTURE_WARNING", severity="info", message=f"rank {rank}: {text}")
        )
    return tuple(
        Issue(code=i.code, severity=i.severity, message=i.message, ranks=(rank,)) for i in issues
    )


def _one_each(found: list[RankRecord]) -> tuple[tuple[RankRecord, ...], tuple[Issue, ...]]:
    """Keep one process per rank of one run: of the run begun last, the one with most steps."""
    issues: list[Issue] = []
    begun: dict[str, int] = {}
    for record in found:
        run_id = str(record.facts.get("run_id", ""))
        begun[run_id] = max(begun.get(run_id, 0), _started(record))
    clash = len({record.rank for record in found}) < len(found)
    if clash and len(begun) > 1:
        newest = max(begun, key=lambda run_id: begun[run_id])
        issues.append(
            Issue(
                code="MIXED_RUNS",
                severity="warning",
                message=f"{len(begun)} runs share this folder; only the latest is analysed",
            )
        )
        found = [r for r in found if str(r.facts.get("run_id", "")) == newest]
    by_rank: dict[int, RankRecord] = {}
    twice: set[int] = set()
    for record in found:
        other = by_rank.get(record.rank)
        twice |= {record.rank} if other else set()
        if other is None or len(record.lines.index) > len(other.lines.index):
            by_rank[record.rank] = record
    if twice:
        issues.append(
            Issue(
                code="DUPLICATE_RANKS",
                severity="warning",
                message=f"rank {_listed(twice)}: recorded by several processes; "
                "the one with most steps is analysed",
                ranks=tuple(sorted(twice)),
            )
        )
    return tuple(by_rank[rank] for rank in sorted(by_rank)), tuple(issues)


def _started(record: RankRecord) -> int:
    clock = record.facts.get("clock")
    return as_int(clock.get("unix_ns"), 0) if isinstance(clock, dict) else 0


def _missing(ranks: Sequence[RankRecord]) -> tuple[Issue, ...]:
    size = max(record.world_size for record in ranks)
    absent = sorted(set(range(min(size, MAX_RANKS))) - {record.rank for record in ranks})
    if not absent:
        return ()
    return (
        Issue(
            code="RANKS_MISSING",
            severity="warning",
            message=f"{len(absent)} of {size} ranks recorded nothing here "
            f"({_listed(absent)}): waits for them cannot be explained",
            ranks=tuple(absent),
        ),
    )


def _without_traces(ranks: Sequence[RankRecord]) -> tuple[Issue, ...]:
    bare = [record for record in ranks if not record.traces]
    spared = [r.rank for r in bare if r.facts.get("traced") is False]
    missing = [r.rank for r in bare if r.facts.get("traced") is not False]
    issues = []
    if missing:
        text = f"ranks {_listed(missing)} have" if len(missing) > 1 else f"rank {missing[0]} has"
        text = "no rank has a" if len(missing) == len(ranks) else f"{text} no"
        message = f"{text} trace{_why_no_window(bare)}: only the step lines speak for them"
        issues.append(("TRACES_MISSING", "warning", message, missing))
    if spared:
        message = (
            f"{len(spared)} of {len(ranks)} ranks were asked for step lines only (--trace-ranks): "
            "waits for them cannot be explained"
        )
        severity = "info"
        if len(spared) == len(ranks):
            message = f"--trace-ranks names none of the {len(ranks)} ranks, so none has a trace"
            severity = "warning"
        issues.append(("TRACES_NOT_ASKED_FOR", severity, message, spared))
    return tuple(
        Issue(code=code, severity=severity, message=message, ranks=tuple(whose))
        for code, severity, message, whose in issues
    )


def _why_no_window(ranks: Sequence[RankRecord]) -> str:
    """What a rank says of a window that it did not trace, in parentheses."""
    warnings = [record.facts.get("warnings") for record in ranks]
    texts = [str(text) for found in warnings if isinstance(found, list) for text in found]
    return next((f" ({text})" for text in texts if text.startswith("window ")), "")


def _listed(ranks: Sequence[int] | set[int]) -> str:
    shown = [str(rank) for rank in sorted(ranks)]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _run_id(path: Path, ranks: Sequence[RankRecord], nodes: Sequence[NodeRecord]) -> str:
    said = [str(node.facts.get("run_id", "")) for node in nodes]
    said += [str(record.facts.get("run_id", "")) for record in ranks]
    return next((run_id for run_id in said if run_id), path.resolve().name)


def _why_no_rank(nodes: Sequence[NodeRecord]) -> str:
    if any(node.facts and node.facts.get("ended_unix_ns") is None for node in nodes):
        return "the run may not have begun its first step yet"
    return "the command never became a training process that perfkit could see"

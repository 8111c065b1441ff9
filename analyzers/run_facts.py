"""What was run, on what, for the reader of a report: nothing here is a measurement."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from perfkit.analyzers.evidence import fact
from perfkit.analyzers.result import RunFacts, World
from perfkit.analyzers.survey import RankSurvey
from perfkit.trace.model import RankRecord, Run
from perfkit.units import count, size

MOST_SOURCES = 64
RECIPES = "recipes"
WINDOWS = "traced steps"


def describe_world(run: Run, surveys: Mapping[int, RankSurvey]) -> World:
    """Say how large the job was, how much of it was analysed, and on what it ran."""
    nodes = {_node(record, surveys) for record in run.ranks}
    kinds = [s.device_kind for s in surveys.values()]
    kinds += [str(k) for record in run.ranks if (k := fact(record, "device_kind"))]
    names = [s.device.name for s in surveys.values() if s.device is not None and s.device.name]
    names += [str(n) for record in run.ranks if (n := fact(record, "device_name"))]
    return World(
        size=run.world_size,
        nodes=len(nodes),
        analysed_ranks=tuple(surveys),
        device_kind=kinds[0] if kinds else "other",
        device_name=names[0] if names else "",
    )


def describe_run(run: Run, surveys: Mapping[int, RankSurvey]) -> RunFacts:
    """Collect what the launching parents and the ranks wrote down."""
    node = run.nodes[0].facts if run.nodes else {}
    started = node.get("started_unix_ns")
    status = node.get("exit_status")
    first = run.ranks[0]
    sources = _shown_paths(run, [source for s in surveys.values() for source in s.sources])
    return RunFacts(
        run_id=run.run_id,
        command=str(node.get("command_line") or ""),
        launcher=str(node.get("launcher") or ""),
        started_utc=_utc(started) if isinstance(started, int) else "",
        exit_status=status if isinstance(status, int) else None,
        hosts=tuple(dict.fromkeys(_hosts(run, surveys))),
        torch=_text(first, "torch"),
        python=_text(first, "python"),
        backend=_text(first, "backend"),
        model=_model(first),
        sources=tuple(sources[:MOST_SOURCES]),
        facts={**dict(_further(first)), **_recipes(node), **_windows(node)},
    )


def _shown_paths(run: Run, sources: Sequence[Path]) -> list[str]:
    """Name files within the run folder, else by as much of their path as tells them apart."""
    if run.path is not None and all(source.is_relative_to(run.path) for source in sources):
        return [str(source.relative_to(run.path)) for source in sources]
    for parts in range(1, max((len(source.parts) for source in sources), default=1) + 1):
        shown = ["/".join(source.parts[-parts:]) for source in sources]
        if len(set(shown)) == len(set(sources)):
            return shown
    return [str(source) for source in sources]


def _node(record: RankRecord, surveys: Mapping[int, RankSurvey]) -> str:
    named = fact(record, "parent_node") or fact(record, "node") or fact(record, "hostname")
    if named is not None:
        return str(named)
    return surveys[record.rank].node if record.rank in surveys else ""


def _hosts(run: Run, surveys: Mapping[int, RankSurvey]) -> Iterator[str]:
    for node in run.nodes:
        yield str(node.facts.get("hostname") or node.node)
    for record in run.ranks:
        name = fact(record, "hostname")
        if name:
            yield str(name)
    if not run.nodes:
        yield from (s.node for s in surveys.values() if s.node)


def _utc(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _recipes(node: Mapping[str, object]) -> dict[str, str]:
    """Return the recipes that the run was started with: its command alone does not tell them."""
    labels = node.get("recipes")
    if not isinstance(labels, list) or not labels:
        return {}
    return {RECIPES: ", ".join(map(str, labels))}


def _windows(node: Mapping[str, object]) -> dict[str, str]:
    """Return the windows that the run was asked to trace, as `--window` takes them."""
    windows = node.get("windows")
    if not isinstance(windows, list) or not windows:
        return {}
    return {WINDOWS: ", ".join(f"{first}:{last}" for first, last in windows)}


def _text(record: RankRecord, key: str) -> str:
    found = fact(record, key)
    return "" if found is None else str(found)


def _model(record: RankRecord) -> str:
    name, parameters = fact(record, "model", "class"), fact(record, "model", "parameters")
    weights = fact(record, "model", "parameter_bytes")
    parts = [str(name)] if name else []
    if isinstance(parameters, int):
        parts.append(f"{count(parameters)} parameters")
    if isinstance(weights, int):
        parts.append(size(weights))
    return ", ".join(parts)


_FURTHER = {
    "anchor optimizer": ("anchor",),
    "autocast": ("autocast",),
    "loader workers": ("loader", "num_workers"),
    "loader batch size": ("loader", "batch_size"),
    "pinned memory": ("loader", "pin_memory"),
    "DDP bucket": ("ddp", "bucket_cap_bytes"),
    "threads": ("threads",),
    "step source": ("step_source",),
}


_SIZES = ("DDP bucket",)


def _further(record: RankRecord) -> Iterator[tuple[str, str]]:
    for title, path in _FURTHER.items():
        found = fact(record, *path)
        if found is not None:
            shown = size(found) if title in _SIZES and isinstance(found, int) else str(found)
            yield title, shown

"""Keeps what reading a trace produced as Parquet, so that the second open is far faster.

One folder a trace: `events.parquet`, `collectives.parquet`, `memory.parquet` and `rest.json`, which
holds everything that is no column, and the key. A key that differs, or anything damaged, counts as
no cache: it is read again and replaced. A cache that cannot be written is not an error.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from perfkit.trace.columns import READER_VERSION
from perfkit.trace.model import (
    Collectives,
    DeviceCounter,
    DeviceFacts,
    Events,
    Issue,
    MemorySamples,
    OpShape,
    ProcessGroup,
    RankTrace,
    StepWindows,
)

EDGE_BYTES = 64 << 10
_BROKEN = (
    OSError,
    pl.exceptions.PolarsError,
    msgspec.MsgspecError,
    ValueError,
    KeyError,
    TypeError,
)


class _Shape(msgspec.Struct, array_like=True):
    dims: Any
    dtypes: tuple[str, ...]
    concrete: tuple[str, ...]
    strides: Any


class _Rest(msgspec.Struct):
    """Everything of a RankTrace that is no column of a table."""

    key: str
    rank: int
    world_size: int
    groups: tuple[ProcessGroup, ...]
    step_index: list[int]
    step_start_ns: list[int]
    step_end_ns: list[int]
    step_complete: list[bool]
    step_source: str
    training_threads: tuple[int, ...]
    device_kind: str
    device: int
    devices: tuple[DeviceFacts, ...]
    node: str
    clock_domain: str
    has_shapes: bool
    recorders: frozenset[str]
    issues: tuple[Issue, ...]
    profiled: tuple[tuple[int, int], ...]
    has_memory: bool
    counters: tuple[DeviceCounter, ...]
    names: tuple[str, ...]
    shapes: list[_Shape]


def key_of(path: Path, *view: object) -> str:
    """Return what identifies a file's content: device, inode, size, mtime, both ends, reader.

    `view` tells apart several readings of one file, such as its processes. "" if the file cannot
    be read.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            edges = file.read(EDGE_BYTES)
            file.seek(max(facts.st_size - EDGE_BYTES, 0))
            edges += file.read(EDGE_BYTES)
    except OSError:
        return ""
    digest = hashlib.blake2b(edges, digest_size=16).hexdigest()
    seen = hashlib.blake2b(repr(view).encode(), digest_size=8).hexdigest() if any(view) else ""
    parts = (facts.st_dev, facts.st_ino, seen, facts.st_size, facts.st_mtime_ns, digest)
    return "-".join(map(str, (*parts, READER_VERSION)))


def load(cache: Path, key: str, path: Path) -> RankTrace | None:
    """Return the trace that was stored under `key`, None if there is none or it is damaged."""
    folder = _folder(cache, key)
    try:
        rest = msgspec.json.decode((folder / "rest.json").read_bytes(), type=_Rest)
        if rest.key != key:
            return None
        return _trace(folder, rest, path)
    except _BROKEN:
        return None


def store(cache: Path, key: str, trace: RankTrace) -> None:
    """Keep a trace; an unwritable or full disk leaves no cache."""
    folder = _folder(cache, key)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    except OSError:
        return
    try:
        _write(made, key, trace)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    except _BROKEN:
        pass
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _folder(cache: Path, key: str) -> Path:
    """Return the folder of a file, whatever its content: a newer content replaces the older."""
    device, inode, seen = key.split("-")[:3]
    return cache / f"trace-{device}-{inode}{'-' * bool(seen)}{seen}"


def _write(folder: Path, key: str, trace: RankTrace) -> None:
    _frame(trace.events, skip=("names", "shapes")).write_parquet(
        folder / "events.parquet", compression="lz4"
    )
    _frame(trace.collectives).write_parquet(folder / "collectives.parquet")
    if trace.memory is not None:
        _frame(trace.memory).write_parquet(folder / "memory.parquet")
    (folder / "rest.json").write_bytes(msgspec.json.encode(_rest(key, trace)))


def _frame(table: Any, skip: Sequence[str] = ()) -> pl.DataFrame:
    names = [item.name for item in fields(table) if item.name not in skip]
    return pl.DataFrame([_series(name, getattr(table, name)) for name in names])


def _series(name: str, column: Any) -> pl.Series:
    if isinstance(column, tuple):  # the tables' only tuples are text
        return pl.Series(name, column, dtype=pl.String)
    return pl.Series(name, column)


def _rest(key: str, trace: RankTrace) -> _Rest:
    steps = trace.steps
    return _Rest(
        key=key,
        rank=trace.rank,
        world_size=trace.world_size,
        groups=trace.groups,
        step_index=steps.index.tolist(),
        step_start_ns=steps.start_ns.tolist(),
        step_end_ns=steps.end_ns.tolist(),
        step_complete=steps.complete.tolist(),
        step_source=steps.source,
        training_threads=trace.training_threads,
        device_kind=trace.device_kind,
        device=trace.device,
        devices=trace.devices,
        node=trace.node,
        clock_domain=trace.clock_domain,
        has_shapes=trace.has_shapes,
        recorders=trace.recorders,
        issues=trace.issues,
        profiled=trace.profiled,
        has_memory=trace.memory is not None,
        counters=trace.counters,
        names=trace.events.names,
        shapes=[_Shape(s.dims, s.dtypes, s.concrete, s.strides) for s in trace.events.shapes],
    )


def _trace(folder: Path, rest: _Rest, path: Path) -> RankTrace:
    shapes = tuple(
        OpShape(
            dims=_frozen(s.dims), dtypes=s.dtypes, concrete=s.concrete, strides=_frozen(s.strides)
        )
        for s in rest.shapes
    )
    return RankTrace(
        rank=rest.rank,
        world_size=rest.world_size,
        events=_table(folder, Events, names=rest.names, shapes=shapes),
        collectives=_table(folder, Collectives),
        groups=rest.groups,
        steps=_windows(rest),
        training_threads=rest.training_threads,
        device_kind=rest.device_kind,
        device=rest.device,
        devices=rest.devices,
        node=rest.node,
        clock_domain=rest.clock_domain,
        has_shapes=rest.has_shapes,
        sources=(path,),
        recorders=rest.recorders,
        issues=rest.issues,
        memory=_table(folder, MemorySamples, file="memory") if rest.has_memory else None,
        profiled=rest.profiled,
        counters=rest.counters,
    )


def _windows(rest: _Rest) -> StepWindows:
    return StepWindows(
        index=np.array(rest.step_index, np.int32),
        start_ns=np.array(rest.step_start_ns, np.int64),
        end_ns=np.array(rest.step_end_ns, np.int64),
        complete=np.array(rest.step_complete, np.bool_),
        has_eval=np.zeros(len(rest.step_index), np.bool_),
        source=rest.step_source,
    )


def _table(folder: Path, kind: type[Any], *, file: str = "", **extra: Any) -> Any:
    """Return the dataclass `kind` with its columns from a Parquet file, text columns as tuples."""
    frame = pl.read_parquet(folder / f"{file or kind.__name__.lower()}.parquet")
    columns: dict[str, Any] = {}
    for item in fields(kind):
        if item.name in extra:
            continue
        column = frame[item.name]
        is_text = column.dtype == pl.String
        columns[item.name] = tuple(column.to_list()) if is_text else column.to_numpy()
    return kind(**columns, **extra)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

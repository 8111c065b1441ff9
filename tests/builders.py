"""Small synthetic captures for tests, in milliseconds: ranks, collectives, step lines, runs.

    trace = rank_trace(
        step(0, at_ms=0, ms=100),
        kernel("gemm", at_ms=10, ms=50),
        nccl("all_reduce", at_ms=60, ms=20, elements=1000),
        input_wait(at_ms=0, ms=10),
        rank=0, world_size=2, device_kind="cuda",
    )
    run, load = run_of(trace, other, lines={0: step_lines(ms=[100] * 20)})
    analysis = analyze(run, load)

Host spans lie on the training thread unless told otherwise. Device work is launched just before it
starts unless `launched_at_ms` says when; it belongs to the step in which it was launched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.model import (
    NONE,
    Collectives,
    DeviceFacts,
    Events,
    Issue,
    NodeRecord,
    ProcessGroup,
    RankRecord,
    RankTrace,
    Run,
    Spans,
    StepLines,
    StepWindows,
)
from tests.builder_items import (
    AUTOGRAD,
    GLOO,
    ITEM_BYTES,
    LOADER,
    MAIN,
    MS,
    ORIGIN_NS,
    Item,
    StepItem,
    Transfer,
    alloc,
    checkpoint,
    comm_call,
    compiling,
    device,
    gc_pause,
    gloo,
    h2d,
    host,
    input_wait,
    kernel,
    nccl,
    op,
    step,
    sync,
    to_ns,
)

__all__ = [
    "AUTOGRAD",
    "GLOO",
    "LOADER",
    "MAIN",
    "MS",
    "ORIGIN_NS",
    "Item",
    "StepItem",
    "Transfer",
    "alloc",
    "checkpoint",
    "comm_call",
    "compiling",
    "device",
    "gc_pause",
    "gloo",
    "h2d",
    "host",
    "input_wait",
    "kernel",
    "nccl",
    "op",
    "rank_record",
    "rank_trace",
    "run_of",
    "step",
    "step_lines",
    "sync",
]


@dataclass
class _Table:
    """Rows under construction: items with their launch calls, then sorted by time."""

    items: list[Item] = field(default_factory=list)
    launch_of: list[int] = field(default_factory=list)  # before sorting
    correlation: list[int] = field(default_factory=list)

    def add(self, item: Item, launch: int = NONE, correlation: int = NONE) -> int:
        self.items.append(item)
        self.launch_of.append(launch)
        self.correlation.append(correlation)
        return len(self.items) - 1


def _with_launches(items: Iterable[Item]) -> _Table:
    table, correlation = _Table(), 0
    graphs: dict[str, tuple[int, int]] = {}
    for item in items:
        if item.launched is None:
            table.add(item)
            continue
        call = graphs.get(item.graph) if item.graph else None
        if call is None:
            correlation += 1
            start, length = item.launched
            name = "cudaGraphLaunch" if item.graph else "cudaLaunchKernel"
            launch = Item(Kind.LAUNCH, name, start, length, item.launch_thread)
            call = (table.add(launch, NONE, correlation), correlation)
            if item.graph:
                graphs[item.graph] = call
        table.add(item, *call)
    return table


def _step_at(points: NDArray[np.int64], steps: Sequence[StepItem]) -> NDArray[np.int32]:
    found = np.full(len(points), NONE, dtype=np.int32)
    for one in steps:
        found[(points >= one.at_ns) & (points < one.at_ns + one.ns)] = one.index
    return found


def _events(
    table: _Table, steps: Sequence[StepItem], origin: int
) -> tuple[Events, NDArray[np.int64]]:
    items = table.items
    start = np.array([i.at_ns for i in items], dtype=np.int64)
    length = np.array([i.ns for i in items], dtype=np.int64)
    order = np.lexsort((-length, start))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    launch = np.array(table.launch_of, dtype=np.int64)
    anchor = np.where(launch >= 0, start[launch], start) if len(items) else start
    of_step = _step_at(anchor, steps)
    of_step[[i for i, item in enumerate(items) if item.unlinked]] = NONE
    names = tuple(dict.fromkeys(i.name for i in items))
    shapes = tuple(i.shape for i in items if i.shape is not None)
    device_row = np.array([i.kind >= FIRST_DEVICE_KIND for i in items], dtype=np.bool_)
    nothing = np.full(len(items), NONE, dtype=np.int64)

    events = Events(
        start_ns=start[order] + origin,
        duration_ns=length[order],
        kind=np.array([i.kind for i in items], dtype=np.uint8)[order],
        name=np.array([names.index(i.name) for i in items], dtype=np.int32)[order],
        thread=np.array([i.thread for i in items], dtype=np.int64)[order],
        device=np.where(device_row, 0, NONE).astype(np.int16)[order],
        correlation=np.array(table.correlation, dtype=np.int64)[order],
        launch=np.where(launch >= 0, place[launch], NONE).astype(np.int32)[order],
        op=nothing.astype(np.int32),
        step=of_step[order],
        shape=np.array(
            [shapes.index(i.shape) if i.shape is not None else NONE for i in items],
            dtype=np.int32,
        )[order],
        sequence=nothing,
        backward=np.zeros(len(items), dtype=np.bool_),
        size_bytes=np.array([i.size_bytes for i in items], dtype=np.int64)[order],
        names=names,
        shapes=shapes,
    )
    return events, place


def _collectives(
    table: _Table, place: NDArray[np.int64], groups: Sequence[ProcessGroup]
) -> Collectives:
    found = [
        (int(place[row]), item.transfer)
        for row, item in enumerate(table.items)
        if item.transfer is not None
    ]
    found.sort(key=lambda pair: pair[0])
    facts = [transfer for _, transfer in found]
    group_names = [g.name for g in groups]
    elements = np.array([f.elements for f in facts], dtype=np.int64)
    return Collectives(
        event=np.array([row for row, _ in found], dtype=np.int32),
        group=np.array(
            [group_names.index(f.group) if f.group in group_names else NONE for f in facts],
            dtype=np.int32,
        ),
        sequence=np.array([f.sequence for f in facts], dtype=np.int64),
        op=tuple(f.op for f in facts),
        dtype=tuple(f.dtype for f in facts),
        in_elements=elements,
        out_elements=elements,
        size_bytes=elements * np.array([ITEM_BYTES[f.dtype] for f in facts], dtype=np.int64),
        source_rank=np.array([f.source for f in facts], dtype=np.int32),
        target_rank=np.array([f.target for f in facts], dtype=np.int32),
    )


def _windows(steps: Sequence[StepItem], origin: int) -> StepWindows:
    return StepWindows(
        index=np.array([s.index for s in steps], dtype=np.int32),
        start_ns=np.array([s.at_ns + origin for s in steps], dtype=np.int64),
        end_ns=np.array([s.at_ns + s.ns + origin for s in steps], dtype=np.int64),
        complete=np.array([s.complete for s in steps], dtype=np.bool_),
        has_eval=np.array([s.has_eval for s in steps], dtype=np.bool_),
        source="ProfilerStep",
    )


ALL_RECORDERS = frozenset({"input_wait", "checkpoint", "gc", "compile", "sync", "alloc"})


def rank_trace(
    *contents: Item | StepItem,
    rank: int = 0,
    world_size: int = 1,
    device_kind: str = "cuda",
    groups: Mapping[str, Sequence[int]] | None = None,
    clock_ms: float = 0.0,
    clock_domain: str = "boot-a",
    node: str = "node-a",
    recorders: Iterable[str] = ALL_RECORDERS,
    issues: Sequence[Issue] = (),
) -> RankTrace:
    """One rank's trace; `clock_ms` is by how much its clock is ahead of true time."""
    origin = ORIGIN_NS + to_ns(clock_ms)
    steps = sorted((c for c in contents if isinstance(c, StepItem)), key=lambda s: s.at_ns)
    table = _with_launches(c for c in contents if isinstance(c, Item))
    members = {"0": tuple(range(world_size))} if groups is None else groups
    process_groups = tuple(
        ProcessGroup(name=name, description="", ranks=tuple(ranks))
        for name, ranks in members.items()
    )
    events, place = _events(table, steps, origin)
    devices = (DeviceFacts(index=0, name="NVIDIA H100"),) if device_kind != "cpu" else ()
    return RankTrace(
        rank=rank,
        world_size=world_size,
        events=events,
        collectives=_collectives(table, place, process_groups),
        groups=process_groups,
        steps=_windows(steps, origin),
        training_threads=(MAIN, AUTOGRAD),
        device_kind=device_kind,
        device=0 if devices else NONE,
        devices=devices,
        node=node,
        clock_domain=clock_domain,
        has_shapes=False,
        sources=(),
        recorders=frozenset(recorders),
        issues=tuple(issues),
    )


def _spans(found: Sequence[tuple[int, float, float]]) -> Spans:
    """Spans from (step, at_ms, ms)."""
    return Spans(
        start_ns=np.array([ORIGIN_NS + to_ns(at) for _, at, _ in found], dtype=np.int64),
        duration_ns=np.array([to_ns(ms) for _, _, ms in found], dtype=np.int64),
        step=np.array([s for s, _, _ in found], dtype=np.int32),
    )


def step_lines(
    ms: Sequence[float],
    *,
    first: int = 0,
    input_ms: Sequence[float] | float = 0.0,
    checkpoint_ms: Mapping[int, float] | None = None,
    samples: int = NONE,
    tokens: int = NONE,
    eval_steps: Iterable[int] = (),
    profiled: Iterable[int] = (),
    gc: Sequence[tuple[int, float, float]] = (),
    compiled: Sequence[tuple[int, float, float]] = (),
) -> StepLines:
    """Build the always-on record: one row per entry of `ms`, back to back from the origin."""
    index = np.arange(first, first + len(ms), dtype=np.int32)
    length = np.array([to_ns(m) for m in ms], dtype=np.int64)
    end = ORIGIN_NS + np.cumsum(length)
    waits = [input_ms] * len(ms) if isinstance(input_ms, int | float) else list(input_ms)
    saved = checkpoint_ms or {}
    return StepLines(
        index=index,
        start_ns=end - length,
        end_ns=end,
        input_wait_ns=np.array([to_ns(w) for w in waits], dtype=np.int64),
        checkpoint_ns=np.array([to_ns(saved.get(int(i), 0.0)) for i in index], dtype=np.int64),
        micro_batches=np.ones(len(ms), dtype=np.int32),
        samples=np.full(len(ms), samples, dtype=np.int64),
        tokens=np.full(len(ms), tokens, dtype=np.int64),
        has_eval=np.isin(index, list(eval_steps)),
        profiled=np.isin(index, list(profiled)),
        gc=_spans(gc),
        compile=_spans(compiled),
    )


def rank_record(
    rank: int,
    world_size: int,
    *,
    lines: StepLines | None = None,
    facts: Mapping[str, object] | None = None,
    traced: bool = True,
    ended: str = "exit",
    issues: Sequence[Issue] = (),
) -> RankRecord:
    folder = Path(f"attempt0/rank{rank:05d}.node-a.{4000 + rank}")
    return RankRecord(
        rank=rank,
        world_size=world_size,
        attempt=0,
        folder=folder,
        facts=dict(facts or {}),
        lines=step_lines([]) if lines is None else lines,
        traces=(folder / "trace-0000-0009.json.gz",) if traced else (),
        ended=ended,
        issues=tuple(issues),
    )


def run_of(
    *traces: RankTrace,
    lines: Mapping[int, StepLines] | None = None,
    facts: Mapping[int, Mapping[str, object]] | None = None,
    node_facts: Mapping[str, object] | None = None,
    run_id: str = "synthetic",
) -> tuple[Run, Callable[[RankRecord], RankTrace]]:
    """Build a run of these traces and the function that loads them, as `analyze` takes it."""
    by_rank = {t.rank: t for t in traces}
    records = tuple(
        rank_record(
            t.rank,
            t.world_size,
            lines=(lines or {}).get(t.rank),
            facts=(facts or {}).get(t.rank),
        )
        for t in sorted(traces, key=lambda t: t.rank)
    )
    nodes = (NodeRecord(node="node-a", facts=dict(node_facts)),) if node_facts else ()
    run = Run(run_id=run_id, path=None, ranks=records, nodes=nodes)
    return run, lambda record: by_rank[record.rank]

"""The events of synthetic captures: what a test writes down, in milliseconds."""

from dataclasses import dataclass, replace

from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, OpShape

MS = 1_000_000
ORIGIN_NS = 1_760_000_000_000_000_000
"""When synthetic captures begin: a plausible Unix time, so that nothing relies on small numbers."""
MAIN, AUTOGRAD, GLOO, LOADER = 100, 101, 102, 103
"""Thread ids of synthetic hosts."""
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int64": 8}


@dataclass(frozen=True)
class Transfer:
    """The collective facts of one event."""

    op: str
    group: str = "0"
    sequence: int = NONE
    dtype: str = "float32"
    elements: int = 1000
    source: int = NONE
    target: int = NONE


@dataclass(frozen=True)
class Item:
    """One event to be."""

    kind: Kind
    name: str
    at_ns: int
    ns: int
    thread: int = MAIN
    launched: tuple[int, int] | None = None  # start and length of the launch call
    launch_thread: int = MAIN
    graph: str = ""  # items with the same name share one launch call
    transfer: Transfer | None = None
    size_bytes: int = NONE
    shape: OpShape | None = None
    unlinked: bool = False


@dataclass(frozen=True)
class StepItem:
    """One host step window to be."""

    index: int
    at_ns: int
    ns: int
    complete: bool = True
    has_eval: bool = False


def to_ns(ms: float) -> int:
    return round(ms * MS)


def step(
    index: int, *, at_ms: float, ms: float, complete: bool = True, has_eval: bool = False
) -> StepItem:
    return StepItem(index, to_ns(at_ms), to_ns(ms), complete, has_eval)


def host(kind: Kind, name: str, *, at_ms: float, ms: float, thread: int = MAIN) -> Item:
    return Item(kind, name, to_ns(at_ms), to_ns(ms), thread)


def op(
    name: str, *, at_ms: float, ms: float, thread: int = MAIN, shape: OpShape | None = None
) -> Item:
    return replace(host(Kind.OP, name, at_ms=at_ms, ms=ms, thread=thread), shape=shape)


def comm_call(name: str = "c10d::allreduce_", *, at_ms: float, ms: float = 0.05) -> Item:
    return host(Kind.COMM_CALL, name, at_ms=at_ms, ms=ms)


def input_wait(*, at_ms: float, ms: float, thread: int = MAIN) -> Item:
    return host(Kind.INPUT_WAIT, "DataLoader.__next__", at_ms=at_ms, ms=ms, thread=thread)


def checkpoint(*, at_ms: float, ms: float) -> Item:
    return host(Kind.CHECKPOINT, "perfkit::checkpoint", at_ms=at_ms, ms=ms)


def sync(name: str = "cudaDeviceSynchronize", *, at_ms: float, ms: float) -> Item:
    return host(Kind.SYNC, name, at_ms=at_ms, ms=ms)


def alloc(name: str = "cudaMalloc", *, at_ms: float, ms: float) -> Item:
    return host(Kind.ALLOC, name, at_ms=at_ms, ms=ms)


def gc_pause(*, at_ms: float, ms: float) -> Item:
    return host(Kind.GC, "gc", at_ms=at_ms, ms=ms)


def compiling(*, at_ms: float, ms: float) -> Item:
    return host(Kind.COMPILE, "dynamo", at_ms=at_ms, ms=ms)


def device(
    kind: Kind,
    name: str,
    *,
    at_ms: float,
    ms: float,
    stream: int = 7,
    launched_at_ms: float | None = None,
    launch_ms: float = 0.0,
    graph: str = "",
    unlinked: bool = False,
    size_bytes: int = NONE,
) -> Item:
    launch = at_ms if launched_at_ms is None else launched_at_ms
    return Item(
        kind,
        name,
        to_ns(at_ms),
        to_ns(ms),
        stream,
        launched=None if unlinked else (to_ns(launch), to_ns(launch_ms)),
        graph=graph,
        unlinked=unlinked,
        size_bytes=size_bytes,
    )


def kernel(
    name: str,
    *,
    at_ms: float,
    ms: float,
    stream: int = 7,
    launched_at_ms: float | None = None,
    launch_ms: float = 0.0,
    graph: str = "",
    unlinked: bool = False,
) -> Item:
    return device(
        Kind.KERNEL,
        name,
        at_ms=at_ms,
        ms=ms,
        stream=stream,
        launched_at_ms=launched_at_ms,
        launch_ms=launch_ms,
        graph=graph,
        unlinked=unlinked,
    )


def h2d(*, at_ms: float, ms: float, pageable: bool = False, size_bytes: int = 1 << 20) -> Item:
    source = "Pageable" if pageable else "Pinned"
    name = f"Memcpy HtoD ({source} -> Device)"
    return device(Kind.MEMCPY_H2D, name, at_ms=at_ms, ms=ms, size_bytes=size_bytes)


def nccl(
    op_name: str,
    *,
    at_ms: float,
    ms: float,
    elements: int = 1000,
    dtype: str = "float32",
    group: str = "0",
    sequence: int = NONE,
    source: int = NONE,
    target: int = NONE,
    stream: int = 20,
    launched_at_ms: float | None = None,
) -> Item:
    item = device(
        Kind.COMM_KERNEL,
        f"ncclDevKernel_{op_name}",
        at_ms=at_ms,
        ms=ms,
        stream=stream,
        launched_at_ms=launched_at_ms,
    )
    return replace(
        item, transfer=Transfer(op_name, group, sequence, dtype, elements, source, target)
    )


def gloo(
    op_name: str,
    *,
    at_ms: float,
    ms: float,
    elements: int = 1000,
    dtype: str = "float32",
    group: str = "0",
    sequence: int = NONE,
    source: int = NONE,
    target: int = NONE,
    thread: int = GLOO,
) -> Item:
    item = host(Kind.COMM_HOST, f"gloo:{op_name}", at_ms=at_ms, ms=ms, thread=thread)
    return replace(
        item, transfer=Transfer(op_name, group, sequence, dtype, elements, source, target)
    )

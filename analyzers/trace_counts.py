"""Small facts of one rank's trace that findings and capture quality rest on."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.windows import Windows
from perfkit.trace.intervals import (
    Intervals,
    intersect,
    label,
    measure_before,
    subtract,
    total_ns,
    union,
)
from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind, TimeClass
from perfkit.trace.model import I64, NONE, Bool, RankTrace

_FP32_MATMUL = re.compile(r"sgemm|gemm_f32f32_f32f32|simt_s\w*gemm|simt_.*f32.*gemm", re.IGNORECASE)
_TENSOR_CORE = re.compile(r"tf32|tensorop|s\d+816|s\d+1688|hmma|bf16|f16|fp8", re.IGNORECASE)
_HALF_MATMUL = re.compile(
    r"^(?=.*(gemm|xmma|cutlass|fmha|flash))(?=.*(bf16|bfloat16|f16|fp16|half|e4m3|fp8))"
    r"|hgemm|h(884|1688|16816)gemm|nvjet_[ht]s",
    re.IGNORECASE,
)
_BLOCKING_READ = "aten::item"
_OPTIMIZER_STEP = "Optimizer.step#"
_FUSED = re.compile(r"_fused_(adam|adamw|sgd|adagrad)|fusedadam|fusedoptimizer", re.IGNORECASE)
_SYNC_BN = re.compile(r"batch_norm_gather_stats|SyncBatchNorm")
_GRAPH_LAUNCHES = ("cudaGraphLaunch", "hipGraphLaunch")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCounts:
    """Totals over one rank's steps; per-step means divide by `steps`."""

    steps: int
    kernels: int
    kernel_ns: int
    short_kernels: int  # kernels that ran for less time than their launch call took
    fp32_matmul_ns: int
    half_matmuls: int  # products in 16 or 8 bits: precision is mixed already
    pageable_h2d_ns: int
    pageable_h2d_bytes: int
    pageable_h2d: int
    exposed_pageable_ns: int  # the part of pageable_h2d_ns beside which no kernel runs
    copies: int  # between host and device
    copied_bytes: int  # of the copies whose size is recorded
    sized_copies: int
    syncs: int
    sync_ns: int
    commonest_sync: str
    blocking_reads: int  # .item() and the like
    profiler_overhead_ns: int
    optimizer_ns: int  # device: kernels that optimizer steps launched; host: the steps themselves
    optimizer_work: int  # those kernels, or operators within the steps
    optimizer_fused: bool
    sync_batch_norms: int
    graph_launches: int
    graph_kernels: int  # kernels that graphs launched
    host_ns: Mapping[TimeClass, tuple[int, ...]]  # by step of the windows: see _host_work
    busy_threads: float  # mean number of host threads inside recorded work, CPU runs only


def count_facts(trace: RankTrace, windows: Windows) -> TraceCounts:
    """Count over the steps of one rank."""
    events = trace.events
    in_step = np.isin(events.step, windows.step)
    kernels = in_step & (events.kind == Kind.KERNEL)
    fp32 = _named(trace, kernels, lambda n: bool(_FP32_MATMUL.search(n)) and not _tensor_core(n))
    pageable = _named(
        trace, in_step & (events.kind == Kind.MEMCPY_H2D), lambda n: "pageable" in n.lower()
    )
    copies = in_step & np.isin(events.kind, (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H))
    sized = copies & (events.size_bytes >= 0)
    graphs = _named(trace, in_step, lambda n: n.startswith(_GRAPH_LAUNCHES))
    syncs = in_step & (events.kind == Kind.SYNC)
    names = Counter(events.names[i] for i in events.name[syncs].tolist())
    reads = _named(trace, in_step & (events.kind == Kind.OP), lambda n: n == _BLOCKING_READ)
    spent, pieces, fused = _optimizer(trace, windows, kernels)
    linked = events.launch != NONE
    call = np.where(linked, events.launch, 0)
    return TraceCounts(
        steps=len(windows.step),
        kernels=int(kernels.sum()),
        kernel_ns=int(events.duration_ns[kernels].sum()),
        short_kernels=int(
            (kernels & linked & (events.duration_ns < events.duration_ns[call])).sum()
        ),
        fp32_matmul_ns=int(events.duration_ns[fp32].sum()),
        half_matmuls=int(_named(trace, kernels, lambda n: bool(_HALF_MATMUL.search(n))).sum()),
        pageable_h2d_ns=int(events.duration_ns[pageable].sum()),
        pageable_h2d_bytes=int(np.maximum(events.size_bytes[pageable], 0).sum()),
        pageable_h2d=int(pageable.sum()),
        exposed_pageable_ns=total_ns(_alone(trace, pageable)),
        copies=int(copies.sum()),
        copied_bytes=int(events.size_bytes[sized].sum()),
        sized_copies=int(sized.sum()),
        syncs=int(syncs.sum()),
        sync_ns=int(events.duration_ns[syncs].sum()),
        commonest_sync=min(names, key=lambda n: (-names[n], n), default=""),
        blocking_reads=int(reads.sum()),
        profiler_overhead_ns=int(
            total_ns(_within(trace, events.kind == Kind.OVERHEAD, windows.intervals))
        ),
        optimizer_ns=spent,
        optimizer_work=pieces,
        optimizer_fused=fused,
        sync_batch_norms=int(_named(trace, in_step, lambda n: bool(_SYNC_BN.search(n))).sum()),
        graph_launches=int(graphs.sum()),
        graph_kernels=int((kernels & linked & graphs[call]).sum()),
        host_ns=_host_work(trace, windows),
        busy_threads=_busy_threads(trace, windows),
    )


def _alone(trace: RankTrace, rows: Bool) -> Intervals:
    """Return the time of these rows in which no kernel runs."""
    events = trace.events
    work = np.isin(events.kind, (Kind.KERNEL, Kind.COMM_KERNEL))
    return subtract(
        union(events.start_ns[rows], events.end_ns[rows]),
        union(events.start_ns[work], events.end_ns[work]),
    )


def _optimizer(trace: RankTrace, windows: Windows, kernels: Bool) -> tuple[int, int, bool]:
    """Return time and pieces of the optimizer's steps, and whether any piece is fused."""
    events = trace.events
    spans = _named(trace, events.kind == Kind.ANNOTATION, lambda n: n.startswith(_OPTIMIZER_STEP))
    inside = intersect(
        union(events.start_ns[spans], events.end_ns[spans]),
        union(windows.start_ns, windows.end_ns),
    )
    if windows.on_device:
        call = np.where(kernels & (events.launch != NONE), events.launch, 0)
        work = kernels & (events.launch != NONE) & (label(inside, events.start_ns[call]) >= 0)
        spent = total_ns(union(events.start_ns[work], events.end_ns[work]))
    else:
        threads = np.isin(events.thread, trace.training_threads)
        work = threads & (events.kind == Kind.OP) & (label(inside, events.start_ns) >= 0)
        spent = total_ns(inside)
    fused = _named(trace, work, lambda n: bool(_FUSED.search(n)))
    return int(spent), int(work.sum()), bool(fused.any())


_PAUSES = (Kind.SYNC, Kind.INPUT_WAIT, Kind.CHECKPOINT, Kind.GC)


def _host_work(trace: RankTrace, windows: Windows) -> Mapping[TimeClass, tuple[int, ...]]:
    """Return how long the training thread fetches, collects and works in each analysed step.

    Its work is the host's step less its waits and pauses. On a device all of it may be hidden.
    """
    events, steps = trace.events, trace.steps
    own = np.isin(events.thread, trace.training_threads[:1])
    place = np.searchsorted(steps.index, windows.step)
    begin, end = steps.start_ns[place], steps.end_ns[place]

    def spent(rows: Bool) -> I64:
        found = union(events.start_ns[own & rows], events.end_ns[own & rows])
        return measure_before(found, end) - measure_before(found, begin)

    work = np.maximum(end - begin - spent(np.isin(events.kind, _PAUSES)), 0)
    return {
        TimeClass.INPUT_WAIT: tuple(spent(events.kind == Kind.INPUT_WAIT).tolist()),
        TimeClass.HOST_GC: tuple(spent(events.kind == Kind.GC).tolist()),
        TimeClass.HOST_LAUNCH: tuple(work.tolist()),
    }


def _tensor_core(name: str) -> bool:
    return bool(_TENSOR_CORE.search(name))


def _named(trace: RankTrace, rows: Bool, matches: Callable[[str], bool]) -> Bool:
    """Narrow rows to those whose name matches; each distinct name is tested once."""
    events = trace.events
    used = np.unique(events.name[rows])
    wanted = [i for i in used.tolist() if matches(events.names[i])]
    return np.asarray(rows & np.isin(events.name, wanted))


def _within(trace: RankTrace, rows: Bool, windows: Intervals) -> Intervals:
    events = trace.events
    spans = union(events.start_ns[rows], events.end_ns[rows])
    return intersect(spans, union(windows[:, 0], windows[:, 1]))


def _busy_threads(trace: RankTrace, windows: Windows) -> float:
    if windows.on_device or not len(windows.step):
        return 0.0
    events = trace.events
    working = (events.kind == Kind.OP) | (events.kind == Kind.COMM_HOST)
    host = working & (events.kind < FIRST_DEVICE_KIND)
    busy = sum(
        total_ns(_within(trace, host & (events.thread == thread), windows.intervals))
        for thread in np.unique(events.thread[host]).tolist()
    )
    return busy / float((windows.end_ns - windows.start_ns).sum())

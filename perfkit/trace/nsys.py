"""Reads one process of an Nsight Systems SQLite export into a RankTrace.

Times are nanoseconds since the session's start; with the session's UTC epoch they become Unix time.
Names lie in StringIds, kernels find their launch by correlation within their process. NCCL is known
by the names of kernels and NVTX ranges, its sizes and communicators by the payloads of those ranges
where the export has them. An export holds no shapes and does not say which ranks form a group.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace import event_table, traits
from perfkit.trace.collectives import Groups, read_collectives
from perfkit.trace.event_table import Table
from perfkit.trace.kinds import FIRST_DEVICE_KIND
from perfkit.trace.model import NONE, DeviceFacts, Issue, RankTrace
from perfkit.trace.nsys_columns import Left, read_columns
from perfkit.trace.nsys_db import Export, open_export
from perfkit.trace.nsys_metrics import read_counters
from perfkit.trace.nsys_payloads import Payloads, described, read_payloads
from perfkit.trace.nsys_processes import Membership, Process, find_processes, membership
from perfkit.trace.table_quality import issue, of_links, of_steps, of_values, worst_first

MAX_EPOCH_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What an export says before it is read: its processes and, of one process, its rank."""

    processes: tuple[Process, ...]
    membership: Membership


def peek_nsys(path: Path) -> ExportFacts:
    """Return the processes of an export that may be ranks.

    Raises InputError if it is not Nsight's, is damaged, or recorded no process at work.
    """
    with open_export(path) as export:
        processes = find_processes(export)
        if not processes:
            raise InputError(
                f"{path}: an Nsight export without device work, CUDA calls and NVTX ranges",
                hint="profile with nsys profile --trace cuda,nvtx",
            )
        return ExportFacts(processes, membership(export))


def read_nsys(path: Path, process: int, pattern: re.Pattern[str] | None = None) -> RankTrace:
    """Return what an export says of one process (a key of `peek_nsys`).

    `pattern` names the NVTX ranges that are steps. Raises InputError if nothing can be read.
    """
    with open_export(path) as export:
        alone = len(find_processes(export)) == 1
        columns, left = read_columns(export, process, alone=alone)
        base = _epoch(export)
        table = event_table.build(columns, base, {}, pattern)
        if not len(table.events):
            raise InputError(f"{path}: holds no events of this process", hint="give another export")
        payloads = read_payloads(export, process)
        issues = worst_first(
            [*_issues(path.name, export, table, left, pattern), *_of_payloads(path.name, payloads)]
        )
        trace = _trace(path, export, table, issues, f"nsys:{base}" if base else "")
        groups = Groups(list(trace.groups))
        told = described(trace.collectives, trace.events, base, payloads, groups)
        counters = read_counters(export, process, trace.device, trace.steps, base)
        if export.count("GPU_METRICS") and not counters:
            trace = replace(trace, issues=(*trace.issues, _unused(path.name)))
        return replace(trace, collectives=told, groups=tuple(groups.known), counters=counters)


def _trace(
    path: Path, export: Export, table: Table, issues: tuple[Issue, ...], clock_domain: str
) -> RankTrace:
    groups = Groups([])
    collectives = read_collectives(table.events, table.source_row, {}, groups)
    devices = _devices(export)
    return RankTrace(
        rank=NONE,
        world_size=0,
        events=table.events,
        collectives=collectives,
        groups=tuple(groups.known),
        steps=table.steps,
        training_threads=table.training_threads,
        device_kind=traits.device_kind(table.events, devices),
        device=traits.main_device(table.events),
        devices=devices,
        node="",
        clock_domain=clock_domain,
        has_shapes=False,
        sources=(path,),
        recorders=traits.recorders(table.events),
        issues=issues,
    )


def _unused(name: str) -> Issue:
    return issue(
        "METRICS_NOT_USED",
        "info",
        f"{name}: its GPU metric samples are left out: none fell into a step, or the export does "
        "not say which GPU this process used",
    )


def _of_payloads(name: str, payloads: Payloads) -> Iterator[Issue]:
    if payloads.undecoded:
        yield issue(
            "PAYLOADS_NOT_READ",
            "info",
            f"{name}: {payloads.undecoded} NVTX payloads do not agree with their schemas and were "
            "left out: sizes of those NCCL calls are unknown",
        )


def _epoch(export: Export) -> int:
    """Return the Unix time of the session's start, 0 where the export does not say."""
    rows = export.integers("TARGET_INFO_SESSION_START_TIME", ("utcEpochNs",))
    epoch = int(rows[0, 0]) if len(rows) else 0
    return epoch if 0 < epoch < MAX_EPOCH_NS else 0


def _devices(export: Export) -> tuple[DeviceFacts, ...]:
    facts = ("cuDevice", "id", "totalMemory", "smCount", "computeMajor", "computeMinor")
    numbers, names = export.with_text("TARGET_INFO_GPU", facts, "name")
    found = []
    for place, (row, name) in enumerate(zip(numbers.tolist(), names, strict=True)):
        ordinal, number, memory, multiprocessors, major, minor = row
        known = ordinal if ordinal != NONE else number
        found.append(
            DeviceFacts(
                index=known if 0 <= known < 1 << 15 else place,
                name=name,
                memory_bytes=max(memory, 0),
                compute_capability=f"{major}.{minor}" if major > 0 else "",
                multiprocessors=max(multiprocessors, 0),
            )
        )
    return tuple(found)


def _issues(
    name: str, export: Export, table: Table, left: Left, pattern: re.Pattern[str] | None
) -> Iterator[Issue]:
    yield from of_values(name, table.counts)
    yield from of_links(name, table.counts)
    if not export.count("TARGET_INFO_SESSION_START_TIME"):
        yield issue(
            "NO_TIME_BASE",
            "info",
            f"{name}: the date is not recorded; its times cannot be compared with other files'",
        )
    yield from of_steps(name, table, pattern)
    if left.open_ranges:
        yield issue(
            "RANGES_WITHOUT_END",
            "info",
            f"{name}: {left.open_ranges} NVTX ranges have no end and were left out",
        )
    if left.graph_traces:
        yield issue(
            "GRAPHS_AS_ONE_EVENT",
            "warning",
            f"{name}: {left.graph_traces} CUDA graphs are recorded as one event each, with their "
            "communication and gaps inside: profile with --cuda-graph-trace=node",
        )
    if not (table.events.kind >= FIRST_DEVICE_KIND).any():
        yield issue(
            "NO_DEVICE_WORK", "warning", f"{name}: holds no kernels and no copies of this process"
        )

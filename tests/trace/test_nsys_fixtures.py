"""Real Nsight exports, 2022 to 2026, against sums that SQL and a sweep over times give."""

import gzip
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.trace.kinds import ROLLUP, Kind
from perfkit.trace.model import RankTrace
from perfkit.trace.run import load_rank, open_run

FILES = {  # processes, kernels, copies, memsets of all processes
    "cloverleaf_a100_2024.5": (1, 1312, 279, 0),
    "extrap_2022_con_kernel": (1, 9, 11, 1),
    "fuser_h100_report1": (1, 19, 1, 1),
    "h100_2gpu_1s": (2, 3442, 904, 22),
    "healthy_1pct": (1, 400, 0, 0),
    "mfu_2gpu_before": (2, 4010, 1020, 269),
}
KERNELS = (Kind.KERNEL, Kind.COMM_KERNEL)
COPIES = (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H, Kind.MEMCPY_D2D, Kind.MEMCPY_P2P)


@pytest.fixture(params=FILES)
def export(request: pytest.FixtureRequest, shared_traces: Path) -> Path:
    return shared_traces / "nsys" / f"{request.param}.sqlite.gz"


@pytest.fixture
def database(export: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    plain = tmp_path / "plain.sqlite"
    plain.write_bytes(gzip.decompress(export.read_bytes()))
    connection = sqlite3.connect(plain)
    connection.text_factory = bytes
    yield connection
    connection.close()


def stem(export: Path) -> str:
    return export.name.removesuffix(".sqlite.gz")


def traces(export: Path) -> list[RankTrace]:
    return [load_rank(record, cache=None) for record in open_run([export]).ranks]


def rows(trace: RankTrace, kinds: tuple[Kind, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(trace.events.kind, kinds)


def has(database: sqlite3.Connection, table: str) -> bool:
    query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(database.execute(query, (table,)).fetchone()[0])


def test_every_row_on_a_device_is_read_once(export: Path) -> None:
    processes, kernels, copies, memsets = FILES[stem(export)]
    found = traces(export)
    assert len(found) == processes
    assert sum(int(rows(trace, KERNELS).sum()) for trace in found) == kernels
    assert sum(int(rows(trace, COPIES).sum()) for trace in found) == copies
    assert sum(int(rows(trace, (Kind.MEMSET,)).sum()) for trace in found) == memsets


def test_device_time_is_what_sql_sums(export: Path, database: sqlite3.Connection) -> None:
    tables = {
        "CUPTI_ACTIVITY_KIND_KERNEL": KERNELS,
        "CUPTI_ACTIVITY_KIND_MEMCPY": COPIES,
        "CUPTI_ACTIVITY_KIND_MEMSET": (Kind.MEMSET,),
    }
    found = traces(export)
    for table, kinds in tables.items():
        total = 0
        if has(database, table):
            total = database.execute(f'SELECT SUM("end" - start) FROM {table}').fetchone()[0]
        mine = sum(int(t.events.duration_ns[rows(t, kinds)].sum()) for t in found)
        assert mine == (total or 0), table


def test_launches_are_those_of_an_sql_join(export: Path, database: sqlite3.Connection) -> None:
    """The kernels that a join on process and correlation finds a call for."""
    owner = "globalPid" in {
        row[1].decode() for row in database.execute("PRAGMA table_info(CUPTI_ACTIVITY_KIND_KERNEL)")
    }
    same = "AND r.globalTid >> 24 = k.globalPid >> 24" if owner else ""
    linked = database.execute(
        "SELECT COUNT(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k WHERE EXISTS (SELECT 1 FROM "
        f"CUPTI_ACTIVITY_KIND_RUNTIME r WHERE r.correlationId = k.correlationId {same})"
    ).fetchone()[0]
    mine = sum(
        int((trace.events.launch[rows(trace, KERNELS)] >= 0).sum()) for trace in traces(export)
    )
    assert mine == linked


def test_nccl_kernels_are_those_that_sql_finds(export: Path, database: sqlite3.Connection) -> None:
    count = database.execute(
        "SELECT COUNT(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.shortName "
        "WHERE CAST(s.value AS TEXT) LIKE 'nccl%'"
    ).fetchone()[0]
    assert sum(len(trace.collectives) for trace in traces(export)) == count
    assert count == (66 if stem(export) == "mfu_2gpu_before" else 0)


def busy_ns(trace: RankTrace, start: int, end: int) -> int:
    """Return the time with any device work, by a sweep over begins and ends."""
    work = rows(trace, (*KERNELS, *COPIES, Kind.MEMSET))
    begins = np.clip(trace.events.start_ns[work], start, end).tolist()
    ends = np.clip(trace.events.end_ns[work], start, end).tolist()
    total = depth = since = 0
    for at, change in sorted([(b, 1) for b in begins] + [(e, -1) for e in ends]):
        if depth > 0:
            total += at - since
        depth, since = depth + change, at
    return total


ON_DEVICE = (
    "compute", "comm_transfer", "pipe_bubble", "comm_wait", "comm_unmatched", "memcpy",
)  # fmt: skip


def test_classes_sum_to_the_window_and_device_time_to_a_sweep(export: Path) -> None:
    analysis = analyze(open_run([export]), partial(load_rank, cache=None))
    for trace, own in zip(traces(export), analysis.budget.per_rank, strict=True):
        work = rows(trace, (*KERNELS, *COPIES, Kind.MEMSET))
        start = int(trace.steps.start_ns[0])
        end = max(int(trace.steps.end_ns[0]), int(trace.events.end_ns[work].max()))
        spent = {name: entry.ms for name, entry in own.classes.items() if entry is not None}
        assert sum(spent.values()) == pytest.approx((end - start) / 1e6, abs=1e-6)
        on_device = sum(spent.get(name, 0.0) for name in ON_DEVICE)
        assert on_device == pytest.approx(busy_ns(trace, start, end) / 1e6, abs=1e-6)
    assert sum(analysis.budget.rollup[name] for name in ROLLUP) == pytest.approx(1.0)


def test_no_environment_leaves_the_file(export: Path, database: sqlite3.Connection) -> None:
    """Nothing of what the profiled machine's environment holds is kept in memory or shown."""
    values: set[bytes] = set()
    if has(database, "META_DATA_CAPTURE"):
        query = "SELECT value FROM META_DATA_CAPTURE WHERE name LIKE '%ENVIRONMENT%'"
        values = {bytes(row[0]) for row in database.execute(query) if len(row[0] or b"") > 24}
    shown = repr(open_run([export])) + "".join(
        repr((trace.issues, trace.events.names, trace.devices)) for trace in traces(export)
    )
    for value in values:
        assert value.decode("utf-8", "replace") not in shown


def test_calls_into_the_operating_system_are_read(
    export: Path, database: sqlite3.Connection
) -> None:
    expected: Counter[str] = Counter()
    if has(database, "OSRT_API"):
        query = (
            "SELECT s.value, COUNT(*) FROM OSRT_API o JOIN StringIds s ON s.id = o.nameId "
            "GROUP BY 1"
        )
        expected.update({name.decode(): count for name, count in database.execute(query)})
    found: Counter[str] = Counter()
    for trace in traces(export):
        names = trace.events.names
        found.update(names[i] for i in trace.events.name[rows(trace, (Kind.OS_CALL,))].tolist())
    assert {name: found[name] for name in expected} == dict(expected)
    assert sum(expected.values()) == (1831 if stem(export).startswith("cloverleaf") else 0)


@pytest.mark.parametrize(
    "export", ["fuser_h100_report1", "h100_2gpu_1s", "mfu_2gpu_before"], indirect=True
)
def test_ranges_are_read_by_name(export: Path, database: sqlite3.Connection) -> None:
    """Those that torch's emit_nvtx did not write: their names stand as they are."""
    query = (
        "SELECT CAST(COALESCE(e.text, s.value) AS TEXT), COUNT(*) FROM NVTX_EVENTS e LEFT JOIN "
        'StringIds s ON s.id = e.textId WHERE e.eventType IN (59, 60) AND e."end" IS NOT NULL '
        "GROUP BY 1"
    )
    texts = {text.decode(): count for text, count in database.execute(query)}
    expected = {name: count for name, count in texts.items() if "op_id = " not in name}
    found: Counter[str] = Counter()
    for trace in traces(export):
        found.update(trace.events.names[i] for i in trace.events.name.tolist())
    assert {name: found[name] for name in expected} == expected


def test_steps_are_the_ranges_that_a_pattern_names(shared_traces: Path, tmp_path: Path) -> None:
    """The blocks of a forward pass stand for steps: no public export holds a range per step."""
    source = shared_traces / "nsys" / "mfu_2gpu_before.sqlite.gz"
    pattern = r"FSDP::pre_forward \(blocks\.(\d+)\."
    run = open_run([source], step_pattern=pattern)
    for record in run.ranks:
        trace = load_rank(record, cache=None)
        named = [i for i, name in enumerate(trace.events.names) if re.match(pattern, name)]
        begins = sorted(trace.events.start_ns[np.isin(trace.events.name, named)].tolist())
        assert len(begins) == 17
        assert trace.steps.start_ns.tolist() == begins
    assert analyze(run, partial(load_rank, cache=None)).steps.analysed > 10

"""Nsight exports made row by row: what becomes of each table, and what is said of odd files."""

import gzip
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from perfkit.errors import InputError
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, RankTrace, Run
from perfkit.trace.run import load_rank, open_run
from tests.trace.nsys_files import EPOCH_NS, PID, Export, owner, two_steps


def load(path: Path, *, steps: str = "") -> RankTrace:
    return load_rank(open_run([path], step_pattern=steps).ranks[0], cache=None)


def names(trace: RankTrace, kind: Kind) -> list[str]:
    events = trace.events
    return [events.names[i] for i in events.name[events.kind == kind].tolist()]


def codes(found: Run | RankTrace) -> set[str]:
    return {issue.code for issue in found.issues}


def test_kernels_find_their_launch_their_operator_and_their_step(tmp_path: Path) -> None:
    trace = load(two_steps().write(tmp_path / "r.sqlite"))
    events = trace.events
    work = np.flatnonzero(events.kind == Kind.KERNEL)
    assert [events.names[i] for i in events.name[events.launch[work]]] == ["cudaLaunchKernel"] * 4
    assert [events.names[i] for i in events.name[events.op[work]]] == ["aten::mm"] * 4
    assert events.sequence[events.op[work]].tolist() == [1, 2, 11, 12]
    assert events.step[work].tolist() == [0, 0, 1, 1]
    assert events.start_ns[work[0]] == EPOCH_NS + 10_000
    assert events.duration_ns[work].tolist() == [50_000] * 4
    assert trace.steps.source == "nvtx"
    assert trace.training_threads == (PID,)
    assert (trace.device_kind, trace.device) == ("cuda", 0)


def test_the_same_correlation_in_two_processes_links_neither_to_the_other(tmp_path: Path) -> None:
    export = two_steps(pid=80, device=1, export=two_steps(pid=90, device=0))
    run = open_run([export.write(tmp_path / "r.sqlite")])
    assert [(record.rank, record.process & 0xFFFFFF) for record in run.ranks] == [(0, 90), (1, 80)]
    assert codes(run) == {"RANK_GUESSED"}
    for record in run.ranks:
        events = load_rank(record, cache=None).events
        assert (events.kind == Kind.KERNEL).sum() == 4
        called = events.launch[events.kind == Kind.KERNEL]
        assert set(events.thread[called].tolist()) == {record.process & 0xFFFFFF}
    domains = {load_rank(record, cache=None).clock_domain for record in run.ranks}
    assert domains == {f"nsys:{EPOCH_NS}"}


def test_rank_from_the_environment_of_the_command(tmp_path: Path) -> None:
    export = two_steps()
    export.environment(RANK="3", WORLD_SIZE="8", SECRET_TOKEN="do-not-show")
    run = open_run([export.write(tmp_path / "r.sqlite")])
    record = run.ranks[0]
    assert (record.rank, record.world_size) == (3, 8)
    shown = f"{run} {load_rank(record, cache=None)}"
    assert "do-not-show" not in shown
    assert "SECRET_TOKEN" not in shown


@pytest.mark.parametrize("value", ["-1", "x", "", "99999999999999999999", "1e3", "\u0661"])
def test_a_rank_that_is_no_rank_is_not_believed(tmp_path: Path, value: str) -> None:
    export = two_steps()
    export.environment(RANK=value)
    assert open_run([export.write(tmp_path / "report-rank5.sqlite")]).ranks[0].rank == 5


def test_rank_from_the_environment_of_nsys_itself(tmp_path: Path) -> None:
    export = two_steps()
    text = "HOME=/root;SLURM_PROCID=2;SLURM_NTASKS=4"
    export.add("TARGET_INFO_SYSTEM_ENV", ("name", "value"), [("DeviceEnvironment", text)])
    record = open_run([export.write(tmp_path / "r.sqlite")]).ranks[0]
    assert (record.rank, record.world_size) == (2, 4)


def test_several_files_are_several_ranks(tmp_path: Path) -> None:
    for rank in range(3):
        two_steps().write(tmp_path / f"job.rank{rank}.sqlite")
    (tmp_path / "job.rank1.sqlite.gz").write_bytes(
        gzip.compress((tmp_path / "job.rank1.sqlite").read_bytes())
    )
    (tmp_path / "job.rank1.sqlite").unlink()
    run = open_run([tmp_path])
    assert [record.rank for record in run.ranks] == [0, 1, 2]
    assert not run.issues
    for record in run.ranks:
        assert len(load_rank(record, cache=None).events) > 0


def test_copies(tmp_path: Path) -> None:
    export = two_steps()
    for number, kind in enumerate((1, 2, 8, 10, 3, 9)):
        export.copy(kind, 10_000 * number, 10_000 * number + 500, 500 + number)
    export.copy(8, 90_000, 90_500, 600, source=0, target=1)
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert names(trace, Kind.MEMCPY_H2D) == [
        "Memcpy HtoD (Pageable -> Device)",
        "Memcpy HtoA (Pageable -> Device)",
        "Memcpy HtoH (Pageable -> Device)",
    ]
    assert len(names(trace, Kind.MEMCPY_D2H)) == 1
    assert len(names(trace, Kind.MEMCPY_D2D)) == 1
    assert len(names(trace, Kind.MEMCPY_P2P)) == 2  # by kind, and by its two devices
    copies = trace.events.kind == Kind.MEMCPY_H2D
    assert set(trace.events.size_bytes[copies].tolist()) == {1 << 20}
    issue = next(i for i in trace.issues if i.code == "LAUNCHES_MISSING")
    assert "7 of 11 device events" in issue.message


def test_text_and_text_id_name_ranges_and_bad_bytes_do_no_harm(tmp_path: Path) -> None:
    export = two_steps()
    export.range("registered", 5, 10, by_id=True)
    export.range(b"caf\xe9", 6, 9)
    export.range("never closed", 7, None)
    trace = load(export.write(tmp_path / "r.sqlite"))
    found = names(trace, Kind.ANNOTATION)
    assert found[:3] == ["step 0", "registered", "caf\ufffd"]
    assert "never closed" not in found
    assert "RANGES_WITHOUT_END" in codes(trace)


def test_nccl_by_kernels_and_ranges(tmp_path: Path) -> None:
    export = two_steps()
    export.range("nccl:all_to_all, op_id = 9", 400_000, 440_000)
    export.range("ncclGroupEnd", 410_000, 430_000)
    export.call("cudaLaunchKernelExC_v11060", 411_000, 412_000, 70)
    export.kernel("ncclDevKernel_SendRecv(args)", 420_000, 480_000, 70)
    export.range("ncclAllReduce", 500_000, 540_000)
    export.call("cuLaunchKernelEx", 511_000, 512_000, 71)
    export.kernel("ncclKernel_AllReduce_RING_LL_Sum_float(args)", 520_000, 580_000, 71)
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert trace.collectives.op == ("all_to_all", "all_reduce")
    assert names(trace, Kind.COMM_CALL) == ["nccl:all_to_all", "ncclAllReduce"]
    assert trace.collectives.size_bytes.tolist() == [NONE, NONE]


def test_calls_into_cuda_and_the_system(tmp_path: Path) -> None:
    export = two_steps()
    export.call("cudaStreamSynchronize_v3020", 300_000, 310_000, 80)
    export.call("cudaMemcpy_v3020", 310_000, 320_000, 81)
    export.call("cudaMalloc_v3020", 320_000, 330_000, 82)
    columns = ("start", "end", "globalTid", "nameId")
    export.add("OSRT_API", columns, [(1, 2, owner(PID, PID), export.text("poll"))])
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert names(trace, Kind.SYNC) == ["cudaStreamSynchronize", "cudaMemcpy"]
    assert names(trace, Kind.ALLOC) == ["cudaMalloc"]
    assert names(trace, Kind.OS_CALL) == ["poll"]
    assert {"sync", "alloc"} <= trace.recorders


def test_steps_by_pattern(tmp_path: Path) -> None:
    export = two_steps()
    for number in range(3):
        export.range(f"forward-backward {number + 7}", 600_000 * number, 600_000 * number + 500_000)
    path = export.write(tmp_path / "r.sqlite")
    steps = load(path, steps=r"^forward-backward (\d+)$").steps
    assert steps.index.tolist() == [7, 8, 9]
    assert (steps.end_ns - steps.start_ns).tolist() == [500_000] * 3
    assert load(path, steps="^forward").steps.index.tolist() == [0, 1, 2]
    nothing = load(path, steps="no such range")
    assert nothing.steps.source == "nvtx"  # falls back to the ranges called step N
    assert len(nothing.steps.index) == 2
    issue = next(i for i in nothing.issues if i.code == "STEP_PATTERN_UNMATCHED")
    assert "2 steps were found by other ranges" in issue.message


def test_a_pattern_without_any_step_is_said(tmp_path: Path) -> None:
    export = Export()
    export.call("cudaLaunchKernel_v7000", 0, 10, 1)
    export.kernel("gemm", 20, 30, 1)
    trace = load(export.write(tmp_path / "r.sqlite"), steps="^mine$")
    assert trace.steps.source == "whole"
    issue = next(i for i in trace.issues if i.code == "STEP_PATTERN_UNMATCHED")
    assert "'^mine$'" in issue.message


def test_steps_by_the_optimizer(tmp_path: Path) -> None:
    export = Export()
    for number in range(4):
        at = 1_000_000 * number
        export.range(f"Optimizer.step#AdamW.step, op_id = {number}", at + 900_000, at + 950_000)
        export.range("Optimizer.step#SGD.step", at + 960_000, at + 970_000)
        export.call("cudaLaunchKernel_v7000", at, at + 10, number + 1)
        export.kernel("gemm", at + 20, at + 800_000, number + 1)
    trace = load(export.write(tmp_path / "r.sqlite"))
    steps = trace.steps
    assert steps.source == "optimizer"
    assert steps.complete.tolist() == [False, True, True, True, False]
    assert (steps.end_ns - steps.start_ns)[1:4].tolist() == [1_000_000] * 3


def test_a_whole_graph_in_one_event_is_work_and_is_said(tmp_path: Path) -> None:
    export = Export()
    export.call("cudaGraphLaunch_v10000", 0, 10, 1)
    columns = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "graphId")
    row = (20, 90, 0, 7, 1, owner(PID), 5)
    export.add("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", columns, [row])
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert names(trace, Kind.KERNEL) == ["CUDA graph 5"]
    assert "GRAPHS_AS_ONE_EVENT" in codes(trace)


def test_kernels_of_a_graph_share_one_launch(tmp_path: Path) -> None:
    export = Export()
    export.call("cudaGraphLaunch_v10000", 0, 10, 1)
    for number in range(3):
        export.kernel(f"k{number}", 20 + number, 21 + number, 1)
    events = load(export.write(tmp_path / "r.sqlite")).events
    assert set(events.launch[events.kind == Kind.KERNEL].tolist()) == {0}


def test_fewest_columns(tmp_path: Path) -> None:
    """What nsys-ai's derived files hold: no owners, no NVTX, no session."""
    export = Export(epoch=False)
    columns = ("start", "end", "streamId", "correlationId", "shortName")
    export.add("CUPTI_ACTIVITY_KIND_KERNEL", columns, [(10, 20, 7, 1, export.text("k"))])
    export.add("CUPTI_ACTIVITY_KIND_RUNTIME", ("start", "end", "correlationId"), [(-5, 3, 1)])
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert names(trace, Kind.KERNEL) == ["k"]
    assert trace.events.launch.tolist() == [NONE, 0]
    assert "NO_TIME_BASE" in codes(trace)


def test_values_of_the_wrong_type_are_no_harm(tmp_path: Path) -> None:
    export = two_steps()
    export.tables["CUPTI_ACTIVITY_KIND_KERNEL"][1][0:2] = [
        ("x", None, "y", 1e300, b"\xff", owner(PID), "z", None),
        (0, 1 << 62, 1 << 40, 7, 1, owner(PID), 1, 1),
    ]
    trace = load(export.write(tmp_path / "r.sqlite"))
    assert len(names(trace, Kind.KERNEL)) >= 2
    assert (trace.events.duration_ns >= 0).all()


def test_a_view_is_not_asked(tmp_path: Path) -> None:
    """A view can compute for ever; Nsight exports hold tables only."""
    path = two_steps().write(tmp_path / "r.sqlite")
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW OSRT_API AS WITH RECURSIVE c(start) AS "
        "(SELECT 1 UNION ALL SELECT start + 1 FROM c) SELECT start FROM c"
    )
    connection.commit()
    connection.close()
    assert names(load(path), Kind.OS_CALL) == []


def other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name)")
    connection.commit()
    connection.close()


def cut(path: Path) -> None:
    two_steps().write(path)
    os.truncate(path, path.stat().st_size // 2)


def quoted_damage(path: Path) -> None:
    """Break the schema so that SQLite's message quotes it: it has line breaks, and no UTF-8."""
    connection = sqlite3.connect(two_steps().write(path))
    connection.execute("CREATE TABLE odd (a -- one\n, b)")
    connection.commit()
    connection.close()
    data = path.read_bytes()
    at = data.rindex(b"CREATE TABLE odd")
    path.write_bytes(data[:at] + b"CREATX \xfc\n\xff" + data[at + 10 :])


def empty_export(path: Path) -> None:
    Export().write(path)


def cut_gzip(path: Path) -> None:
    other = path.with_suffix(".tmp")
    two_steps().write(other)
    path.write_bytes(gzip.compress(other.read_bytes())[:-200])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (other_database, "an SQLite database, but not one that Nsight Systems exported"),
        (cut, "a damaged SQLite file"),
        (quoted_damage, "a damaged SQLite file"),
        (empty_export, "an Nsight export without device work, CUDA calls and NVTX ranges"),
        (cut_gzip, "a gzip file that is cut off"),
        (lambda path: path.write_bytes(b"SQLite format 3\x00junk"), "a damaged SQLite file"),
    ],
)
def test_what_is_no_export_gets_one_line(tmp_path: Path, make, said: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "r.sqlite"
    make(path)
    with pytest.raises(InputError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_the_cache_tells_processes_and_patterns_apart(tmp_path: Path) -> None:
    export = two_steps(pid=80, device=1, export=two_steps(pid=90, device=0))
    path = export.write(tmp_path / "r.sqlite")
    for _ in range(2):
        for record in open_run([path]).ranks:
            trace = load_rank(record, cache=tmp_path / "cache")
            assert trace.device == record.rank
            assert trace.clock_domain == f"nsys:{EPOCH_NS}"
        record = open_run([path], step_pattern="^aten::mm$").ranks[0]
        assert len(load_rank(record, cache=tmp_path / "cache").steps.index) == 4


REPORT_TOOL = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; shift; done
[ -n "$FAIL" ] && { echo "boom" >&2; exit 3; }
cp "$EXPORT" "$out"
"""


def test_a_report_is_exported_by_nsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "nsys"
    tool.parent.mkdir()
    tool.write_text(REPORT_TOOL)
    tool.chmod(0o755)
    report = tmp_path / "train.nsys-rep"
    report.write_bytes(b"NSYS")
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EXPORT", str(two_steps().write(tmp_path / "other.sqlite")))
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(InputError, match="nsys export failed: boom"):
        open_run([report])
    monkeypatch.delenv("FAIL")
    assert len(load(report).events) > 0
    tool.unlink()
    assert len(load(report).events) > 0  # the export is kept


def test_a_report_without_nsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "train.nsys-rep"
    report.write_bytes(b"NSYS")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="which only nsys can read, and nsys is not on PATH"):
        open_run([report])
    with pytest.raises(InputError, match="an Nsight report without its export"):
        open_run([tmp_path])
    two_steps().write(tmp_path / "train.sqlite")
    assert len(open_run([tmp_path]).ranks) == 1
    assert len(load(report).events) > 0

"""Files that several ranks were merged into: split where processes tell, or refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from perfkit.trace.kinds import Kind
from perfkit.trace.kineto_merged import looks_merged
from perfkit.trace.model import RankTrace, Run
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import Event, document, kernel, launch, op, step, write

STEPS = 3


def one_rank(rank: int, first: int = 100) -> list[Event]:
    """Return a rank's events: process 75 and device 0, a kernel a step of 10 us times rank + 1."""
    events = []
    for number in range(STEPS):
        at, correlation = 1000.0 * number, first + number
        events += [
            step(number, at, 1000.0),
            op("aten::mm", at + 10, 100.0, number + 1),
            launch(at + 20, correlation, External_id=number + 1),
            kernel("gemm", at + 50, 10.0 * (rank + 1), correlation, External_id=number + 1),
        ]
    return events


def renamed(events: list[Event], host: object, device: object) -> list[Event]:
    on_device = ("kernel", "gpu_memcpy")
    return [{**e, "pid": device if e["cat"] in on_device else host} for e in events]


def named(pid: object, name: str) -> Event:
    return {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}


def traces(run: Run) -> dict[int, RankTrace]:
    return {record.rank: load_rank(record, cache=None) for record in run.ranks}


def kernel_time(trace: RankTrace) -> int:
    return int(trace.events.duration_ns[trace.events.kind == Kind.KERNEL].sum())


def text_pids(rank: int) -> tuple[object, object]:
    return f"rank {rank} CPU", f"rank {rank} GPU"


def joined_pids(rank: int) -> tuple[object, object]:
    return f"rank{rank}_75", f"rank{rank}_0"


@pytest.mark.parametrize("pids", [text_pids, joined_pids])
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_ranks_by_the_names_of_their_processes(tmp_path: Path, pids, suffix: str) -> None:  # type: ignore[no-untyped-def]
    events = [e for rank in (1, 0, 3) for e in renamed(one_rank(rank), *pids(rank))]
    run = open_run([write(tmp_path / f"all{suffix}", document(events))])
    assert [record.rank for record in run.ranks] == [0, 1, 3]
    for rank, trace in traces(run).items():
        assert kernel_time(trace) == STEPS * 10_000 * (rank + 1)
        assert trace.steps.index.tolist() == [0, 1, 2]
        assert not {i.code for i in trace.issues} & {"SEVERAL_PROCESSES", "LAUNCHES_MISSING"}
        work = trace.events.kind == Kind.KERNEL
        assert trace.events.step[work].tolist() == [0, 1, 2]
        assert set(trace.events.device[work].tolist()) == {0}


def test_ranks_by_process_names_in_metadata(tmp_path: Path) -> None:
    events: list[Event] = []
    for rank in (0, 1):
        host, device = 1000 * (rank + 1), 1000 * (rank + 1) + 1
        events += renamed(one_rank(rank), host, device)
        events += [named(host, f"[Rank {rank}] python"), named(device, f"[Rank {rank}] GPU 0")]
    extra = {"distributedInfo": {"rank": 0, "world_size": 4}}  # left over from the first file
    run = open_run([write(tmp_path / "all.json", document(events, **extra))])
    assert [record.rank for record in run.ranks] == [0, 1]
    assert run.world_size == 4
    assert {kernel_time(trace) for trace in traces(run).values()} == {30_000, 60_000}


def test_ranks_by_who_launched_the_work_of_a_device(tmp_path: Path) -> None:
    events = renamed(one_rank(0, first=100), 501, 1) + renamed(one_rank(1, first=900), 502, 0)
    run = open_run([write(tmp_path / "all.json", document(events))])
    assert "RANK_GUESSED" in {issue.code for issue in run.issues}
    found = traces(run)  # numbered by device
    assert [kernel_time(found[rank]) for rank in (0, 1)] == [60_000, 30_000]


@pytest.mark.parametrize(
    "devices",
    [(0, 1), (0, 0)],
    ids=["the same correlation in both processes", "one device for both"],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, devices: tuple[int, int]) -> None:
    events = [
        e
        for rank, device in enumerate(devices)
        for e in renamed(one_rank(rank), 501 + rank, device)
    ]
    run = open_run([write(tmp_path / "all.json", document(events))])
    assert len(run.ranks) == 1
    issue = next(i for i in traces(run)[0].issues if i.code == "SEVERAL_PROCESSES")
    assert issue.severity == "error"


def test_processes_named_by_text_without_a_rank_are_seen(tmp_path: Path) -> None:
    """They were once all "no number", so that two ranks looked like one."""
    events = renamed(one_rank(0), "blue", "GPU") + renamed(one_rank(1), "red", "GPU")
    run = open_run([write(tmp_path / "all.json", document(events))])
    assert "SEVERAL_PROCESSES" in {issue.code for issue in traces(run)[0].issues}


def test_real_ranks_merged_and_split_again(shared_traces: Path, tmp_path: Path) -> None:
    """Two real ranks in one file, as a script merges them: the same events come out."""
    files = [shared_traces / "own" / "gloo_ddp4" / f"rank{n}.pt.trace.json.gz" for n in (0, 3)]
    documents = [json.loads(gzip.decompress(file.read_bytes())) for file in files]
    for rank, content in zip((0, 3), documents, strict=True):
        for event in content["traceEvents"]:
            event["pid"] = f"rank{rank} {event.get('pid')}"
    events = [e for content in documents for e in content["traceEvents"]]
    alone = {record.rank: load_rank(record, cache=None) for record in open_run(files).ranks}
    # A packed file that says its rank is not searched for others: take its word away.
    content = {k: v for k, v in documents[0].items() if k != "distributedInfo"}
    run = open_run([write(tmp_path / "all.json.gz", {**content, "traceEvents": events})])
    for rank, trace in traces(run).items():
        np.testing.assert_array_equal(trace.events.duration_ns, alone[rank].events.duration_ns)
        np.testing.assert_array_equal(trace.events.kind, alone[rank].events.kind)
        assert trace.steps.index.tolist() == alone[rank].steps.index.tolist()


def test_one_process_does_not_look_merged(tmp_path: Path) -> None:
    """A sample may end inside a process id, which then looks like another's."""
    events = [op(f"aten::{'x' * (i % 7)}", i, 0.5, i + 1, pid=783658) for i in range(20_000)]
    path = write(tmp_path / "t.json", document(events))
    assert not looks_merged(path, says_rank=True)
    assert not looks_merged(path, says_rank=False)

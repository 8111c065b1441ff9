"""The join of flight recorder and trace, on a real gloo capture and on made-up ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.trace.event_names import dtype_name
from perfkit.trace.flight import Entry, join, read_entries
from perfkit.trace.kinds import Kind
from perfkit.trace.kineto import read_kineto
from perfkit.trace.model import NONE, RankTrace
from tests.trace.files import BASE_NS, document, kernel, launch, op, span, step, write
from tests.trace.folders import write_lines
from tests.trace.naive import NaiveTrace


def real_entries(dump: Path) -> Iterator[Entry]:
    """Return a c10d dump as the entries that our own capture would write."""
    for raw in json.loads(dump.read_text())["entries"]:
        yield Entry(
            kind="c",
            group=raw["process_group"][0],
            description=raw["process_group"][1],
            seq=raw["collective_seq_id"],
            op=raw["profiling_name"].removeprefix("gloo:"),
            sizes=raw["input_sizes"],
            out_sizes=raw["output_sizes"],
            dtypes=[dtype_name(name) for name in raw["input_dtypes"]],
            created_ns=raw["time_created_ns"],
        )


def true_sequences(naive: NaiveTrace, entries: list[Entry]) -> dict[tuple[int, int], Entry]:
    """Return the entry of each gloo event, told by an id that only this capture has.

    An execution-trace observer ran beside it, so "Record function id" counts up: the id of a gloo
    event is drawn inside the c10d call that enqueues it, right after the call's own.
    """
    calls = {
        e["args"]["Record function id"]: naive.interval(e)
        for e in naive.of({"cpu_op"})
        if e["name"].startswith("c10d::")
    }
    truth = {}
    for event in naive.of({"user_annotation"}):
        if not event["name"].startswith("gloo:"):
            continue
        begin, end = calls[max(i for i in calls if i < event["args"]["Record function id"])]
        inside = [entry for entry in entries if begin <= entry.created_ns < end]
        assert len(inside) <= 1
        if inside:
            truth[naive.interval(event)[0], event["tid"]] = inside[0]
    return truth


@pytest.mark.parametrize("rank", range(4))
def test_real_gloo_ranks(shared_traces: Path, rank: int) -> None:
    folder = shared_traces / "own" / "gloo_ddp4"
    path = folder / f"rank{rank}.pt.trace.json.gz"
    entries = list(real_entries(folder / "flight_recorder" / f"dump_json_rank{rank}"))
    trace = read_kineto(path)
    joined = join(trace, entries, trace.profiled)
    truth = true_sequences(NaiveTrace(path), entries)
    assert len(truth) == 24
    facts, events = joined.collectives, joined.events
    found = 0
    for row in range(len(facts)):
        event = int(facts.event[row])
        expected = truth.get((int(events.start_ns[event]), int(events.thread[event])))
        if facts.op[row] in ("send", "recv"):
            assert expected is None
            assert facts.group[row] == NONE
            continue
        assert expected is not None
        found += 1
        group = joined.groups[facts.group[row]]
        assert (group.name, int(facts.sequence[row])) == (expected.group, expected.seq)
        call = int(events.op[event])
        assert events.names[events.name[call]].startswith("c10d::")
        assert events.start_ns[call] <= expected.created_ns < events.end_ns[call]
        assert facts.size_bytes[row] > 0
    assert found == 24
    assert {joined.groups[g].description for g in facts.group.tolist() if g != NONE} == {
        "default_pg",
        f"tp{rank // 2}",
    }
    assert not [i for i in joined.issues if i.code == "COLLECTIVES_WITHOUT_SEQUENCE"]


def test_all_gather_counts_its_output(shared_traces: Path) -> None:
    folder = shared_traces / "own" / "gloo_ddp4"
    trace = read_kineto(folder / "rank0.pt.trace.json.gz")
    entries = list(real_entries(folder / "flight_recorder" / "dump_json_rank0"))
    facts = join(trace, entries, trace.profiled).collectives
    rows = [i for i, name in enumerate(facts.op) if name == "all_gather"]
    assert {int(facts.in_elements[i]) for i in rows} == {128}
    assert {int(facts.size_bytes[i]) for i in rows} == {4 * 128 * 4}


def gloo(at: float, *, thread: int = 900, size: int = 10, name: str = "all_reduce") -> Any:
    shape = {"Input Dims": [[size]], "Input type": ["float"]}
    event = span("user_annotation", f"gloo:{name}", at, 5.0, tid=thread)
    event["args"] |= shape
    return event


def entry(at: float, seq: int, *, group: str = "0", size: int = 10) -> Entry:
    return Entry(
        kind="c",
        group=group,
        seq=seq,
        op="all_reduce",
        sizes=[[size]],
        out_sizes=[[size]],
        dtypes=["float32"],
        created_ns=BASE_NS + int(at * 1000),
    )


def joined(tmp_path: Path, events: list[Any], entries: list[Entry]) -> RankTrace:
    spanned = [span("Trace", "PyTorch Profiler (0)", 1000, 1e6, pid="Spans", tid="P"), *events]
    trace = read_kineto(write(tmp_path / "t.json", document([*spanned, step(1, 1000, 9e5)])))
    return join(trace, entries, trace.profiled)


def sequences(trace: RankTrace) -> list[int]:
    return [int(number) for number in trace.collectives.sequence]


def test_entries_from_before_the_profiler_are_not_used(tmp_path: Path) -> None:
    trace = joined(
        tmp_path, [gloo(2000), gloo(3000)], [entry(10, 4), entry(1990, 5), entry(2990, 6)]
    )
    assert sequences(trace) == [5, 6]


def test_a_transfer_that_ran_late_keeps_its_place(tmp_path: Path) -> None:
    events = [gloo(2000), gloo(2500, thread=901), gloo(9000)]
    trace = joined(tmp_path, events, [entry(1990, 5), entry(1991, 6), entry(1992, 7)])
    assert sequences(trace) == [5, 6, 7]


def test_a_transfer_before_its_enqueueing_is_no_pair(tmp_path: Path) -> None:
    trace = joined(tmp_path, [gloo(2000), gloo(3000)], [entry(1990, 5), entry(8000, 6)])
    assert sequences(trace) == [NONE, NONE]
    assert trace.issues[-1].code == "COLLECTIVES_WITHOUT_SEQUENCE"
    assert "2 of 2" in trace.issues[-1].message


def test_more_entries_than_transfers_pair_only_what_is_sure(tmp_path: Path) -> None:
    entries = [entry(1990, 5), entry(2990, 6), entry(2991, 7)]
    trace = joined(tmp_path, [gloo(2000), gloo(3500)], entries)
    assert sequences(trace) == [5, NONE]


def test_fewer_entries_than_transfers_pair_nothing(tmp_path: Path) -> None:
    assert sequences(joined(tmp_path, [gloo(2000), gloo(3000)], [entry(1990, 5)])) == [NONE, NONE]


def test_two_groups_of_equal_sizes_are_told_apart_by_their_threads(tmp_path: Path) -> None:
    events = [
        gloo(2000, thread=900, size=33),  # only group 0 has this size: 900 is its thread
        gloo(3000, thread=900),
        gloo(3001, thread=800),
    ]
    entries = [entry(1990, 1, size=33), entry(2990, 2), entry(2991, 1, group="tp")]
    trace = joined(tmp_path, events, entries)
    names = [trace.groups[g].name for g in trace.collectives.group.tolist()]
    assert list(zip(names, sequences(trace), strict=True)) == [("0", 1), ("0", 2), ("tp", 1)]


def test_two_groups_that_nothing_tells_apart_stay_unknown(tmp_path: Path) -> None:
    events = [gloo(3000, thread=900), gloo(3001, thread=800)]
    trace = joined(tmp_path, events, [entry(2990, 2), entry(2991, 1, group="tp")])
    assert sequences(trace) == [NONE, NONE]


def test_a_kernel_gets_the_sequence_of_its_call(tmp_path: Path) -> None:
    said: Any = {"Collective name": "allreduce", "dtype": "Float", "Process Group Name": "0"}
    events: list[Any] = [
        {**op("record_param_comms", 2000, 50.0, 5), "args": {"External id": 5, **said}},
        launch(2010, 7, External_id=5),
        kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)", 2100, 5.0, 7, External_id=5),
    ]
    other = [entry(1500, 8), entry(2005, 9), entry(2006, 3, group="tp"), entry(2500, 10)]
    trace = joined(tmp_path, events, other)
    assert sequences(trace) == [9]
    assert int(trace.events.kind[trace.collectives.event[0]]) == Kind.COMM_KERNEL


def test_no_entries_change_nothing(tmp_path: Path) -> None:
    trace = joined(tmp_path, [gloo(2000)], [])
    assert sequences(trace) == [NONE]
    assert np.all(trace.collectives.group == NONE)
    assert not [i for i in trace.issues if i.code == "COLLECTIVES_WITHOUT_SEQUENCE"]


def test_torn_and_damaged_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "collectives.jsonl"
    assert read_entries(path) == []
    line = {"k": "c", "group": "0", "seq": 2, "op": "all_reduce", "sizes": [[2, 3]]}
    lines: list[Any] = [
        {"k": "header"},
        {**line, "created_ns": 9},
        {**line, "seq": 1, "created_ns": 5},
    ]
    write_lines(path, [*lines, {**line, "p2p": True, "created_ns": 7}, {"k": "c", "seq": "x"}])
    with path.open("a") as file:
        file.write('{"k": "c", "created_ns": 4')
    entries = read_entries(path)
    assert [found.seq for found in entries] == [1, 2]
    assert entries[0].key == ("all_reduce", 6, "")

"""Times, threads, links and facts of small files whose answers are plain to see."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.errors import InputError
from perfkit.trace.kinds import Kind
from perfkit.trace.kineto import read_kineto
from perfkit.trace.kineto_columns import exact_nanoseconds, nanoseconds
from perfkit.trace.model import NONE, RankTrace
from perfkit.trace.source import Source
from tests.trace.files import BASE_NS, document, kernel, launch, op, span, step, write


def read(tmp_path: Path, events: list[dict[str, Any]], **extra: Any) -> RankTrace:
    return read_kineto(write(tmp_path / "t.json", document(events, **extra)))


def row(trace: RankTrace, name: str) -> int:
    return next(
        i for i, index in enumerate(trace.events.name.tolist()) if trace.events.names[index] == name
    )


def codes(trace: RankTrace) -> set[str]:
    return {issue.code for issue in trace.issues}


class TestTimes:
    """Microseconds in, exact nanoseconds out."""

    def test_relative_times_are_exact_up_to_a_quarter_of_a_year(self, tmp_path: Path) -> None:
        made = [op(f"o{i}", 7_889_237_999_999.0 + i / 1000, 0.001, i + 1) for i in range(999)]
        text = json.dumps(document(made))
        for i in range(999):
            text = text.replace(json.dumps(made[i]["ts"]), f"7889237999999.{i:03d}", 1)
        trace = read_kineto(write(tmp_path / "t.json", text))
        first = BASE_NS + 7_889_237_999_999_000
        assert trace.events.start_ns.tolist() == [first + i for i in range(999)]
        assert set(trace.events.duration_ns.tolist()) == {1}

    def test_absolute_times_with_decimals_are_exact(self, tmp_path: Path) -> None:
        stamps = [f"17121954955196{i:02d}.{(i * 37) % 1000:03d}" for i in range(100)]
        events = ", ".join(
            f'{{"ph": "X", "cat": "cpu_op", "name": "o", "tid": 1, "ts": {ts}, "dur": 0.5}}'
            for ts in stamps
        )
        trace = read_kineto(write(tmp_path / "t.json", f'{{"traceEvents": [{events}]}}'))
        expected = sorted(int(ts.replace(".", "")) for ts in stamps)
        assert trace.events.start_ns.tolist() == expected

    def test_a_file_that_turns_exact_late(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Source.chunks, "__defaults__", (1000,))
        whole = [op(f"w{i}", 1_712_195_495_000_000 + i, 1, i + 1) for i in range(50)]
        late = [op(f"late{i}", 1, 1.5, 100 + i) for i in range(50)]
        text = json.dumps([*whole, *late])
        for i in range(50):
            text = text.replace('"ts": 1,', f'"ts": 17121954955196{i + 10}.047,', 1)
        trace = read_kineto(write(tmp_path / "t.json", text))
        assert len(trace.events) == 100
        for i in range(50):
            expected = int(f"17121954955196{i + 10}047")
            assert int(trace.events.start_ns[row(trace, f"late{i}")]) == expected

    def test_text_to_nanoseconds(self) -> None:
        assert exact_nanoseconds(b"1712195495519689.047") == 1_712_195_495_519_689_047
        assert exact_nanoseconds(b"12") == 12_000
        assert exact_nanoseconds(b"12.5") == 12_500
        assert exact_nanoseconds(b"1e3") == 1_000_000
        assert nanoseconds(np.array([0.001, 2.25, -1.5])).tolist() == [1, 2250, -1500]

    def test_impossible_times_are_left_out_and_counted(self, tmp_path: Path) -> None:
        good = [op(f"o{i}", 4e12 + i, 1.0, i + 1) for i in range(5)]
        bad = [op("zero", 0, 1.0, 90), op("long", 4e12, 9e12, 91), op("far", 4e15, 1.0, 92)]
        trace = read(tmp_path, good + bad)
        assert len(trace.events) == 5
        message = next(i.message for i in trace.issues if i.code == "EVENTS_OUT_OF_TIME")
        assert " 3 events" in message

    def test_negative_durations_count_as_zero(self, tmp_path: Path) -> None:
        trace = read(tmp_path, [op("a", 10, -5.0, 1), op("b", 20, 5.0, 2)])
        assert trace.events.duration_ns.tolist() == [0, 5000]
        assert "NEGATIVE_DURATIONS" in codes(trace)

    def test_without_a_base_the_date_is_unknown(self, tmp_path: Path) -> None:
        trace = read(tmp_path, [op("a", 4e12, 5.0, 1)], baseTimeNanoseconds=None)
        assert "NO_TIME_BASE" in codes(trace)
        assert int(trace.events.start_ns[0]) == 4 * 10**15

    @pytest.mark.parametrize("number", ["1e400", "-1e400", "1e30"])
    def test_numbers_beyond_all_bounds(self, tmp_path: Path, number: str) -> None:
        text = json.dumps(document([op("a", 10, 5.0, 1), op("b", 77, 5.0, 2)]))
        trace = read_kineto(write(tmp_path / "t.json", text.replace(": 77", f": {number}")))
        assert trace.events.start_ns.tolist() == [BASE_NS + 10_000]
        assert codes(trace) & {"EVENTS_OUT_OF_TIME", "EVENTS_UNREADABLE"}


class TestOddFields:
    """Fields that are missing, null or of another type."""

    def test_missing_args_category_and_name(self, tmp_path: Path) -> None:
        bare: list[dict[str, Any]] = [
            {"ph": "X", "ts": 5, "dur": 1},
            {"ph": "X", "cat": "cpu_op", "ts": 6, "dur": 1},
            {"ph": "X", "cat": "cpu_op", "name": "x", "ts": 7},
            {"ph": "X", "cat": None, "name": "x", "ts": 7, "dur": 1},
            {"cat": "cpu_op"},
            {},
        ]
        trace = read(tmp_path, [*bare, op("a", 10, 5.0, 1)])
        assert len(trace.events) == 3
        assert "EVENTS_UNKNOWN" in codes(trace)

    def test_text_where_numbers_belong(self, tmp_path: Path) -> None:
        made = [
            op("a", 10, 5.0, 1, pid="75", tid="75"),
            span("kernel", "k", 12, 1, correlation="9", stream="7", device="0", tid="stream 7"),
            launch(11, 9, tid="75"),
        ]
        trace = read(tmp_path, made)
        kernel_row = row(trace, "k")
        assert int(trace.events.thread[kernel_row]) == 7
        assert int(trace.events.device[kernel_row]) == 0
        assert trace.events.names[trace.events.name[trace.events.launch[kernel_row]]] == (
            "cudaLaunchKernel"
        )
        assert int(trace.events.thread[row(trace, "a")]) == 75

    def test_wrong_types_cost_one_event(self, tmp_path: Path) -> None:
        broken = [
            {**op("b", 20, 1.0, 2), "args": []},
            {**op("b", 20, 1.0, 2), "args": {"External id": {}}},
            {**op("b", 20, 1.0, 2), "ts": "soon"},
            {**op("b", 20, 1.0, 2), "name": 7},
        ]
        trace = read(tmp_path, [op("a", 10, 5.0, 1), *broken, op("c", 30, 5.0, 3)])
        assert [trace.events.names[i] for i in trace.events.name.tolist()] == ["a", "c"]
        message = next(i.message for i in trace.issues if i.code == "EVENTS_UNREADABLE")
        assert " 4 events" in message

    def test_null_is_absent(self, tmp_path: Path) -> None:
        made = op("a", 10, 5.0, 1)
        made["args"] |= {"correlation": None, "stream": None, "Sequence number": None}
        trace = read(tmp_path, [made])
        assert len(trace.events) == 1
        assert int(trace.events.sequence[0]) == NONE

    def test_huge_integers(self, tmp_path: Path) -> None:
        trace = read(tmp_path, [kernel("k", 10, 5.0, 5, stream=1 << 70), op("a", 1, 1, 1 << 63)])
        assert len(trace.events) == 2

    def test_several_processes_are_reported(self, tmp_path: Path) -> None:
        trace = read(tmp_path, [op("a", 10, 5.0, 1, pid=1), op("b", 10, 5.0, 2, pid=2)])
        assert "SEVERAL_PROCESSES" in codes(trace)

    def test_nothing_but_metadata(self, tmp_path: Path) -> None:
        made = [{"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "x"}}]
        with pytest.raises(InputError, match="without a single complete event"):
            read(tmp_path, made)


class TestLinks:
    """Which operator and which launch caused an event."""

    def test_new_external_ids_link_across_threads(self, tmp_path: Path) -> None:
        made = [
            op("outer", 0, 100.0, 1),
            op("inner", 10, 50.0, 2),
            launch(20, 7, External_id=2),
            kernel("k", 200, 5.0, 7, External_id=2),
        ]
        trace = read(tmp_path, made)
        inner = row(trace, "inner")
        assert int(trace.events.op[row(trace, "k")]) == inner
        assert int(trace.events.op[row(trace, "cudaLaunchKernel")]) == inner

    def test_repeated_correlations_are_no_link(self, tmp_path: Path) -> None:
        made = [
            op("wrong", 500, 10.0, 7),  # its id collides with the correlation
            op("outer", 0, 100.0, 1),
            op("right", 10, 50.0, 2),
            launch(20, 7, External_id=7),
            kernel("k", 200, 5.0, 7, External_id=7),
        ]
        trace = read(tmp_path, made)
        assert int(trace.events.op[row(trace, "k")]) == row(trace, "right")
        assert "LINKED_BY_CONTAINMENT" in codes(trace)

    def test_the_lower_case_ids_of_2020_link(self, tmp_path: Path) -> None:
        made = [
            span("Operator", "o", 0, 100.0, External_id=3, tid="75"),
            span("Runtime", "cudaLaunchKernel", 20, 1.0, external_id=3, correlation=7),
            span("Kernel", "k", 200, 5.0, external_id=3, correlation=7, tid="stream 7"),
        ]
        trace = read_kineto(write(tmp_path / "t.json", made))
        assert int(trace.events.op[row(trace, "k")]) == row(trace, "o")

    def test_a_kernel_without_launch_belongs_to_no_step(self, tmp_path: Path) -> None:
        made = [step(4, 0, 100.0), op("o", 1, 90.0, 1), kernel("k", 50, 5.0, 7)]
        trace = read(tmp_path, made)
        at = row(trace, "k")
        assert int(trace.events.launch[at]) == NONE
        assert int(trace.events.step[at]) == NONE
        assert "LAUNCHES_MISSING" in codes(trace)

    def test_a_kernel_belongs_to_the_step_that_launched_it(self, tmp_path: Path) -> None:
        made = [
            step(4, 0, 100.0),
            step(5, 100, 100.0),
            launch(90, 7),
            launch(110, 8),
            kernel("late", 150, 5.0, 7),
            kernel("next", 190, 5.0, 8),
        ]
        trace = read(tmp_path, made)
        assert int(trace.events.step[row(trace, "late")]) == 4
        assert int(trace.events.step[row(trace, "next")]) == 5

    def test_backward_follows_ranges_and_ops(self, tmp_path: Path) -> None:
        made = [
            op("forward", 0, 10.0, 1),
            op("autograd::engine::evaluate_function: Mul", 20, 30.0, 2, tid=90),
            op("aten::mul", 22, 10.0, 3, tid=90),
            launch(23, 7, External_id=3, tid=90),
            kernel("k", 60, 5.0, 7, External_id=3),
            op("after", 60, 5.0, 4, tid=90),
        ]
        trace = read(tmp_path, made)
        found = {
            name: bool(trace.events.backward[row(trace, name)])
            for name in (
                "forward",
                "aten::mul",
                "cudaLaunchKernel",
                "k",
                "after",
            )
        }
        assert found == {
            "forward": False,
            "aten::mul": True,
            "cudaLaunchKernel": True,
            "k": True,
            "after": False,
        }


class TestThreads:
    """Which threads train."""

    def test_the_stepping_thread_comes_first(self, tmp_path: Path) -> None:
        made = [
            step(1, 0, 100.0),
            *[op("decode", i, 0.5, 100 + i, tid=300) for i in range(90)],
            op("forward", 1, 10.0, 1),
            op("autograd::engine::evaluate_function: Mul", 20, 30.0, 2, tid=90),
        ]
        assert read(tmp_path, made).training_threads == (75, 90)

    def test_without_steps_most_forward_operators_decide(self, tmp_path: Path) -> None:
        made = [
            *[op("aten::mm", i, 0.5, i + 1) for i in range(9)],
            op("pin", 0, 50.0, 100, tid=300),
            *[
                op("autograd::engine::evaluate_function: Mul", i, 0.5, 200 + i, tid=90)
                for i in range(20)
            ],
        ]
        trace = read(tmp_path, made)
        assert trace.training_threads == (75, 90)
        assert trace.steps.source == "whole"
        assert trace.steps.index.tolist() == [0]


class TestFacts:
    """What a trace says of ranks, groups, devices and recorders."""

    def test_groups_and_devices(self, tmp_path: Path) -> None:
        trace = read(
            tmp_path,
            [op("a", 1, 1, 1)],
            deviceProperties=[
                {
                    "id": 0,
                    "name": "H100",
                    "totalGlobalMem": 5,
                    "computeMajor": 9,
                    "computeMinor": 0,
                    "numSms": 132,
                }
            ],
            distributedInfo={
                "rank": 1,
                "world_size": 2,
                "pg_config": [
                    {"pg_name": "0", "pg_desc": "default_pg", "ranks": [0, 1]},
                    {"pg_name": "1", "pg_desc": "tp", "ranks": "[1]"},
                ],
            },
        )
        assert [group.ranks for group in trace.groups] == [(0, 1), (1,)]
        assert trace.devices[0].compute_capability == "9.0"
        assert trace.devices[0].multiprocessors == 132

    @pytest.mark.parametrize("info", [None, [], "x", {"rank": "one"}, {"rank": [1]}, {}])
    def test_malformed_facts_count_as_absent(self, tmp_path: Path, info: object) -> None:
        trace = read(tmp_path, [op("a", 1, 1, 1)], distributedInfo=info, deviceProperties=info)
        assert (trace.rank, trace.world_size) == (NONE, 0)

    def test_recorders(self, tmp_path: Path) -> None:
        assert read(tmp_path, [op("a", 1, 1, 1)]).recorders == frozenset()
        loader = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
        made = [span("user_annotation", loader, 1, 2.0), launch(5, 1)]
        assert read(tmp_path, made).recorders == {"input_wait", "sync", "alloc"}

    def test_unfinished_steps_are_incomplete(self, tmp_path: Path) -> None:
        made = [step(1, 0, 10.0), {**step(2, 10, 5.0), "args": {"finished": False}}]
        assert read(tmp_path, made).steps.complete.tolist() == [True, False]

    def test_a_record_param_comms_describes_its_kernel(self, tmp_path: Path) -> None:
        said = {
            "Collective name": "allreduce",
            "dtype": "Float",
            "In msg nelems": 10,
            "Out msg nelems": 10,
            "Process Group Name": "3",
            "Group size": 2,
            "Process Group Ranks": "[4, 5]",
            "Seq": 17,
        }
        made = [
            {**op("record_param_comms", 0, 10.0, 5), "args": {"External id": 5, **said}},
            launch(1, 7, External_id=5),
            kernel("ncclDevKernel_Generic(x)", 20, 5.0, 7, External_id=5),
        ]
        trace = read(tmp_path, made)
        facts = trace.collectives
        assert (facts.op, facts.dtype) == (("all_reduce",), ("float32",))
        assert (int(facts.sequence[0]), int(facts.size_bytes[0])) == (17, 40)
        assert trace.groups[facts.group[0]].ranks == (4, 5)
        assert int(trace.events.kind[facts.event[0]]) == Kind.COMM_KERNEL

    def test_absurd_sizes_are_unknown(self, tmp_path: Path) -> None:
        shape = {"Input Dims": [[1 << 40, 1 << 40]], "Input type": ["float"]}
        host = span("user_annotation", "gloo:all_reduce", 5, 1.0)
        host["args"] |= shape
        device = kernel("ncclDevKernel_AllReduce(x)", 20, 5.0, 7)
        device["args"] |= {"Collective name": "allreduce", "In msg nelems": 1 << 61}
        facts = read(tmp_path, [host, device]).collectives
        assert facts.in_elements.tolist() == [NONE, NONE]
        assert facts.size_bytes.tolist() == [NONE, NONE]

    def test_wait_is_no_collective(self, tmp_path: Path) -> None:
        said = {"Collective name": "wait", "dtype": "Byte", "In msg nelems": 0}
        made = [
            {**op("record_param_comms", 0, 10.0, 5), "args": {"External id": 5, **said}},
            launch(1, 7, External_id=5),
            kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)", 20, 5.0, 7, External_id=5),
        ]
        facts = read(tmp_path, made).collectives
        assert (facts.op, facts.dtype) == (("all_reduce",), ("",))
        assert int(facts.size_bytes[0]) == NONE


def test_an_event_without_a_time_is_counted_and_left_out(tmp_path: Path) -> None:
    lost = op("aten::lost", 0.0, 1.0, 3)
    del lost["ts"]
    trace = read(tmp_path, [step(1, 0, 100.0), op("aten::mm", 10.0, 5.0, 2), lost])
    assert "aten::lost" not in trace.events.names
    assert "EVENTS_OUT_OF_TIME" in codes(trace)


def test_a_byte_order_mark_hides_nothing(tmp_path: Path) -> None:
    facts = {"distributedInfo": {"rank": 3, "world_size": 8}}
    text = json.dumps(document([step(1, 0, 100.0)], **facts))
    trace = read_kineto(write(tmp_path / "t.json", "\ufeff" + text))
    assert (trace.rank, trace.world_size) == (3, 8)
    assert "METADATA_UNREADABLE" not in codes(trace)


@pytest.mark.parametrize("rank", [-3, 10**30, 1 << 40, "x", 1.5e300, None, [0], True])
def test_a_rank_that_cannot_be_one_counts_as_not_said(tmp_path: Path, rank: object) -> None:
    said = {"rank": rank, "world_size": rank, "pg_config": [{"pg_name": "0", "ranks": [0, rank]}]}
    trace = read(tmp_path, [step(1, 0, 100.0)], distributedInfo=said)
    assert (trace.rank, trace.world_size) == (NONE, 0)
    assert trace.groups[0].ranks == ()

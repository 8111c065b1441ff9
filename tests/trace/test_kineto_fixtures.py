"""The reader against a second reading with json, on every real capture."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perfkit.trace.kinds import FIRST_DEVICE_KIND, LAST_WORK_KIND, Kind
from perfkit.trace.kineto import read_kineto
from perfkit.trace.model import NONE, RankTrace
from tests.trace.naive import HOST, RUNTIME, WORK, Event, NaiveTrace, innermost, union_ns

FILES = (
    "kineto/dlrm_v100_8ranks/worker0_*",
    "kineto/dlrm_v100_8ranks/worker7_*",
    "kineto/hta_a100_rank3_of_8.json.gz",
    "kineto/hta_amd_mi250.json.gz",
    "kineto/hta_cpu_only_gloo_300.json.gz",
    "kineto/hta_cpu_only_gloo_300_full.json.gz",
    "kineto/hta_critical_path/alexnet.json.gz",
    "kineto/hta_critical_path/event_sync.json.gz",
    "kineto/hta_critical_path/event_sync_multi_stream.json.gz",
    "kineto/hta_critical_path/simple_add.json.gz",
    "kineto/hta_cupti_range.json.gz",
    "kineto/hta_mtia_inference.json.gz",
    "kineto/hta_nccl_metadata.json.gz",
    "kineto/hta_no_distributed_info.json.gz",
    "kineto/hta_ns_absolute.json.gz",
    "kineto/hta_rank_missing.json.gz",
    "kineto/hta_timeline_ranks_0_1_of_128/rank0.json.gz",
    "kineto/hta_timeline_ranks_0_1_of_128/rank1.json.gz",
    "kineto/hta_triton.json.gz",
    "kineto/hta_v100_5steps_54MB.json.gz",
    "kineto/kineto_2020_array.json.gz",
    "kineto/kineto_2021_v1.json.gz",
    "kineto/lightllm_h200_tp8_cudagraph/*3090494*",
    "kineto/nanogpt_h100_8ranks/*rank0*",
    "kineto/nanogpt_h100_8ranks/*rank6*",
    "kineto/torchrec_resnet18_2ranks/*85867*",
    "kineto/torchrec_v100_4ranks_opt4/*44239*",
    "own/gloo_ddp4/rank0.pt.trace.json.gz",
    "own/gloo_ddp4/rank3.pt.trace.json.gz",
    "tracelens/b200_eager.json.gz",
    "tracelens/h100_bert.json.gz",
    "tracelens/h100_qwen.json.gz",
    "tracelens/mi210_gpu_only.json.gz",
    "tracelens/mi300_bert.json.gz",
    "tracelens/mi300_ddp_resnet.json.gz",
    "tracelens/mi300_qwen.json.gz",
    "tracelens/triton_compile.json.gz",
    "tracelens/vllm_decode_graph.json.gz",
)

Both = tuple[RankTrace, NaiveTrace]


@pytest.fixture(scope="module")
def read_both(shared_traces: Path) -> Callable[[str], Both]:
    kept: dict[str, Both] = {}

    def read(pattern: str) -> Both:
        if pattern not in kept:
            kept.clear()  # one file at a time in memory
            path = next(iter(shared_traces.glob(pattern)))
            kept[pattern] = read_kineto(path), NaiveTrace(path)
        return kept[pattern]

    return read


@pytest.mark.parametrize("pattern", FILES)
class TestEveryCapture:
    """What must hold of each file."""

    def test_all_events_are_kept(self, read_both: Callable[[str], Both], pattern: str) -> None:
        trace, naive = read_both(pattern)
        kinds = trace.events.kind
        assert int(np.isin(kinds, _host_kinds()).sum()) == len(naive.of(HOST))
        calls = np.isin(kinds, (Kind.LAUNCH, Kind.SYNC, Kind.ALLOC, Kind.RUNTIME))
        assert int(calls.sum()) == len(naive.of(RUNTIME))
        assert len(_work(trace)) == len(naive.of(WORK))
        names = Counter(trace.events.names[i] for i in trace.events.name[_work(trace)].tolist())
        assert names == Counter(e["name"] for e in naive.of(WORK))

    def test_times_are_exact(self, read_both: Callable[[str], Both], pattern: str) -> None:
        trace, naive = read_both(pattern)
        events = trace.events
        bounds = list(zip(events.start_ns.tolist(), events.end_ns.tolist(), strict=True))
        rows = np.flatnonzero(np.isin(events.kind, _host_kinds())).tolist()
        assert sorted(bounds[i] for i in rows) == sorted(map(naive.interval, naive.of(HOST)))
        found = [bounds[i] for i in _work(trace).tolist()]
        assert sorted(found) == sorted(map(naive.interval, naive.of(WORK)))
        assert union_ns(found) == union_ns(map(naive.interval, naive.of(WORK)))

    def test_rows_are_ordered(self, read_both: Callable[[str], Both], pattern: str) -> None:
        events = read_both(pattern)[0].events
        later = np.diff(events.start_ns) > 0
        same_but_shorter = (np.diff(events.start_ns) == 0) & (np.diff(events.duration_ns) <= 0)
        assert (later | same_but_shorter).all()

    def test_launches(self, read_both: Callable[[str], Both], pattern: str) -> None:
        trace, naive = read_both(pattern)
        events, launches = trace.events, naive.launches()
        linked = sum(e["args"].get("correlation", -1) in launches for e in naive.of(WORK))
        work = _work(trace)
        assert int((events.launch[work] != NONE).sum()) == linked
        for row in work[:: max(len(work) // 300, 1)].tolist():
            launch = int(events.launch[row])
            if launch != NONE:
                said = launches[int(events.correlation[row])]
                assert events.names[events.name[launch]] == said["name"]
                assert int(events.start_ns[launch]) == naive.interval(said)[0]

    def test_steps(self, read_both: Callable[[str], Both], pattern: str) -> None:
        trace, naive = read_both(pattern)
        steps = naive.steps()
        if not steps:
            assert trace.steps.source == "whole"
            return
        bounds = zip(trace.steps.start_ns.tolist(), trace.steps.end_ns.tolist(), strict=True)
        assert dict(zip(trace.steps.index.tolist(), bounds, strict=True)) == steps

    def test_memory_samples(self, read_both: Callable[[str], Both], pattern: str) -> None:
        trace, naive = read_both(pattern)
        totals = [e for e in naive.memory if "Total Allocated" in e["args"]]
        found = 0 if trace.memory is None else len(trace.memory.at_ns)
        assert found == len(totals)


@pytest.mark.parametrize(
    "pattern",
    [
        "kineto/dlrm_v100_8ranks/worker0_*",
        "kineto/torchrec_resnet18_2ranks/*85867*",
        "kineto/hta_timeline_ranks_0_1_of_128/rank0.json.gz",
        "kineto/hta_critical_path/alexnet.json.gz",
    ],
)
def test_old_files_link_by_containment(read_both: Callable[[str], Both], pattern: str) -> None:
    trace, naive = read_both(pattern)
    assert "LINKED_BY_CONTAINMENT" in {issue.code for issue in trace.issues}
    events, ops = trace.events, _ops(naive)
    calls = np.flatnonzero(np.isin(events.kind, (Kind.LAUNCH, Kind.SYNC)))
    launches = naive.launches()
    for row in calls[:: max(len(calls) // 60, 1)].tolist():
        expected = innermost(naive, launches[int(events.correlation[row])], ops)
        found = int(events.op[row])
        if expected is None:
            assert found == NONE
        else:
            assert found != NONE
            assert int(events.start_ns[found]) == naive.interval(expected)[0]


@pytest.mark.parametrize(
    "pattern", ["kineto/nanogpt_h100_8ranks/*rank0*", "tracelens/mi300_ddp_resnet.json.gz"]
)
def test_new_files_link_by_external_id(read_both: Callable[[str], Both], pattern: str) -> None:
    trace, naive = read_both(pattern)
    assert "LINKED_BY_CONTAINMENT" not in {issue.code for issue in trace.issues}
    events = trace.events
    by_id = {e["args"]["External id"]: e for e in _ops(naive)}
    launches = naive.launches()
    for row in _work(trace)[::7].tolist():
        said = launches.get(int(events.correlation[row]), {}).get("args", {}).get("External id")
        if said in by_id:
            expected = by_id[said]
            assert int(events.start_ns[events.op[row]]) == naive.interval(expected)[0]


def test_nanogpt_has_the_published_numbers(read_both: Callable[[str], Both]) -> None:
    trace, naive = read_both("kineto/nanogpt_h100_8ranks/*rank0*")
    assert len(naive.document["traceEvents"]) == 27_408
    assert len(naive.of({"cpu_op"})) == 8_896
    kernels = np.isin(trace.events.kind, (Kind.KERNEL, Kind.COMM_KERNEL))
    assert int(kernels.sum()) == 2_917
    assert len(np.unique(trace.events.thread[kernels])) == 2
    assert len(trace.collectives) == 76
    assert int((trace.collectives.group != NONE).sum()) == 56
    assert trace.steps.index.tolist() == [10, 11, 12, 13]
    work = _work(trace)
    assert len(work) == 3_812
    assert round(float((trace.events.launch[work] != NONE).mean()), 3) == 0.907
    assert trace.training_threads == (75, 155)
    assert (trace.rank, trace.world_size, trace.device_kind) == (0, 8, "cuda")


def test_nanogpt_collectives_carry_their_metadata(read_both: Callable[[str], Both]) -> None:
    trace, naive = read_both("kineto/nanogpt_h100_8ranks/*rank0*")
    said = [e for e in naive.of({"kernel"}) if "Collective name" in e["args"]]
    said.sort(key=naive.interval)
    facts = trace.collectives
    rows = np.flatnonzero(facts.group != NONE).tolist()
    names = {"_reduce_scatter_base": "reduce_scatter", "_allgather_base": "all_gather"}
    for row, event in zip(rows, said, strict=True):
        args = event["args"]
        name = args["Collective name"]
        assert facts.op[row] == names.get(name, "all_reduce")
        assert facts.in_elements[row] == args["In msg nelems"]
        assert facts.out_elements[row] == args["Out msg nelems"]
        assert trace.groups[facts.group[row]].ranks == tuple(range(8))
        width = {"BFloat16": 2, "Float": 4, "Int": 4, "Long": 8}[args["dtype"]]
        key = "Out msg nelems" if name == "_allgather_base" else "In msg nelems"
        assert facts.size_bytes[row] == args[key] * width


def test_a_graph_launch_owns_all_its_kernels(read_both: Callable[[str], Both]) -> None:
    trace, _ = read_both("kineto/lightllm_h200_tp8_cudagraph/*3090494*")
    owners = Counter(trace.events.launch[_work(trace)].tolist())
    row, count = owners.most_common(1)[0]
    assert trace.events.names[trace.events.name[row]] == "cudaGraphLaunch"
    assert count > 2_000
    assert "COMM_KERNEL" in {Kind(k).name for k in trace.events.kind.tolist()}


def test_devices_and_ranks_are_told_apart(read_both: Callable[[str], Both]) -> None:
    trace, _ = read_both("tracelens/mi300_ddp_resnet.json.gz")
    assert (trace.rank, trace.device, trace.device_kind) == (0, 2, "rocm")
    reduced = [i for i, op in enumerate(trace.collectives.op) if op == "all_reduce"]
    assert {trace.collectives.dtype[i] for i in reduced} == {"bfloat16"}
    times = trace.events.duration_ns[trace.collectives.event[reduced]]
    elements = trace.collectives.in_elements[reduced]
    # Published beside the trace (coll_analysis.csv), in microseconds.
    assert int(times[elements == 8_816_192].sum()) == 26_798_240
    assert int(times[elements == 2_873_320].sum()) == 20_338_798


def test_ns_absolute_times_keep_their_last_digit(read_both: Callable[[str], Both]) -> None:
    trace, _ = read_both("kineto/hta_ns_absolute.json.gz")
    assert trace.events.start_ns.min() > 1_700_000_000 * 10**9
    assert len(set((trace.events.start_ns % 10).tolist())) == 10


def test_starts_before_launch_are_counted(read_both: Callable[[str], Both]) -> None:
    trace, naive = read_both("kineto/torchrec_resnet18_2ranks/*85867*")
    launches = naive.launches()
    early = sum(
        naive.interval(e)[0] < naive.interval(launches[e["args"]["correlation"]])[0]
        for e in naive.of(WORK)
        if e["args"]["correlation"] in launches
    )
    issue = next(i for i in trace.issues if i.code == "STARTS_BEFORE_LAUNCH")
    assert f" {early} device events" in issue.message


def _host_kinds() -> tuple[Kind, ...]:
    return (
        Kind.OP,
        Kind.ANNOTATION,
        Kind.COMM_CALL,
        Kind.COMM_HOST,
        Kind.INPUT_WAIT,
        Kind.CHECKPOINT,
        Kind.COMPILE,
    )


def _work(trace: RankTrace) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    kind = trace.events.kind
    return np.flatnonzero((kind >= FIRST_DEVICE_KIND) & (kind <= LAST_WORK_KIND))


def _ops(naive: NaiveTrace) -> list[Event]:
    communication = ("nccl:",)
    ops = naive.of({"cpu_op"})
    return ops + [e for e in naive.of({"user_annotation"}) if e["name"].startswith(communication)]

"""Three cases in which other tools blame the wrong rank or raise, from trace files to the verdict.

HTA 0.6 breaks down each rank's kernels alone and calls waiting communication; HTA and TraceLens
compare the starts of collectives on raw clocks; HTA 0.6.1's get_potential_stragglers knows only
kernel names of old NCCL releases and raises on `ncclDevKernel_*`.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis
from perfkit.trace.run import load_rank, open_run

STEPS, STEP_MS = 10, 100.0
INPUT_MS, COMPUTE_MS, REDUCE_END_MS, UPDATE_MS = {0: 1.0, 1: 70.0}, 15.0, 95.0, 5.0
BASE_NS = 1_760_000_000_000_000_000


def write_rank(folder: Path, rank: int, *, clock_ms: float = 0.0, busy: float = COMPUTE_MS,
               input_ms: float | None = None) -> None:  # fmt: skip
    """Write one rank's Kineto trace: loader, forward, all-reduce that ends at 95 ms, update."""
    wait = INPUT_MS[rank] if input_ms is None else input_ms
    events: list[dict[str, Any]] = []
    for k in range(STEPS + 1):
        t = k * STEP_MS + clock_ms
        arrive = wait + busy
        events.append(_host("user_annotation", f"ProfilerStep#{k}", t, STEP_MS))
        name = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
        events.append(_host("user_annotation", name, t, wait))
        events += _work(3 * k, "ampere_sgemm_128x64_tn", t + wait, busy, stream=7)
        facts = {
            "Collective name": "allreduce", "In msg nelems": 1_000_000, "Out msg nelems": 1_000_000,
            "dtype": "Float", "Group size": 2, "Process Group Name": "0",
            "Process Group Description": "default_pg", "Process Group Ranks": "[0, 1]",
        }  # fmt: skip
        ms = REDUCE_END_MS - arrive
        reduce = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
        events += _work(3 * k + 1, reduce, t + arrive, ms, stream=20, facts=facts)
        events += _work(3 * k + 2, "adam", t + REDUCE_END_MS, UPDATE_MS, stream=7)
    document = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-40GB", "computeMajor": 8,
                              "computeMinor": 0, "totalGlobalMem": 42_000_000_000}],
        "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": 2,
                            "pg_config": [{"pg_name": "0", "pg_desc": "default_pg",
                                           "backend_config": "cuda:nccl", "pg_size": 2,
                                           "ranks": [0, 1]}]},
        "baseTimeNanoseconds": BASE_NS,
        "host_name": f"node{rank}" if clock_ms else "node",
        "traceEvents": events,
    }  # fmt: skip
    (folder / f"rank{rank}.json").write_text(json.dumps(document), encoding="utf-8")


def _host(category: str, name: str, at_ms: float, ms: float) -> dict[str, Any]:
    times = {"ts": round(at_ms * 1e3, 3), "dur": round(ms * 1e3, 3)}
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1, "args": {}, **times}


def _work(
    number: int, name: str, at_ms: float, ms: float, *, stream: int,
    facts: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    launch = _host("cuda_runtime", "cudaLaunchKernel", at_ms - 0.01, 0.005)
    launch["args"] = {"correlation": number + 1}
    kernel = _host("kernel", name, at_ms, ms)
    kernel |= {"pid": 0, "tid": stream}
    kernel["args"] = {"correlation": number + 1, "stream": stream, "device": 0, **(facts or {})}
    return [launch, kernel]


def analysed(folder: Path) -> Analysis:
    run = open_run([folder])
    return analyze(run, partial(load_rank, cache=None))


def hta_communication_share(folder: Path, rank: int) -> float:
    """Return HTA's reading of a rank: time of NCCL kernels alone over the span of all kernels."""
    events = json.loads((folder / f"rank{rank}.json").read_text())["traceEvents"]
    kernels = [e for e in events if e["cat"] == "kernel"]
    span = max(e["ts"] + e["dur"] for e in kernels) - min(e["ts"] for e in kernels)
    return float(sum(e["dur"] for e in kernels if "nccl" in e["name"]) / span)


def last_by_raw_clocks(folder: Path) -> int:
    """Return the rank whose all-reduces start last on the clocks as they stand."""
    starts = {}
    for rank in (0, 1):
        events = json.loads((folder / f"rank{rank}.json").read_text())["traceEvents"]
        starts[rank] = [e["ts"] for e in events if "nccl" in e["name"]]
    later = sum(b > a for a, b in zip(starts[0], starts[1], strict=True))
    return int(later > len(starts[0]) / 2)


def test_a_slow_loader_that_rank_0_sees_only_as_a_long_all_reduce(tmp_path: Path) -> None:
    write_rank(tmp_path, 0)
    write_rank(tmp_path, 1)
    assert hta_communication_share(tmp_path, 0) == pytest.approx(0.8, abs=0.01)
    analysis = analysed(tmp_path)
    verdict = analysis.verdict
    assert verdict.label == "io"
    assert (verdict.blame[0].rank, verdict.blame[0].class_) == (1, "input_wait")
    assert "rank 0 waits for rank 1" in verdict.sentence
    assert verdict.rollup_after_blame["communication"] < 0.15
    assert [(s.rank, s.class_) for s in analysis.stragglers] == [(1, "input_wait")]


def test_the_same_with_a_clock_that_is_off_by_more_than_the_lateness(tmp_path: Path) -> None:
    """Rank 1 arrives 3 ms late and its clock is 5 ms behind: raw clocks blame rank 0."""
    write_rank(tmp_path, 0, clock_ms=0.001, input_ms=10.0, busy=60.0)
    write_rank(tmp_path, 1, clock_ms=-5.0, input_ms=18.0, busy=60.0 - 5.0)
    assert last_by_raw_clocks(tmp_path) == 0
    analysis = analysed(tmp_path)
    (row,) = analysis.collectives
    assert set(row.last_arriver) == {"1"}
    first = analysis.verdict.blame[0]
    assert first.rank == 1 and not [b for b in analysis.verdict.blame if b.rank == 0]
    assert first.class_ == "input_wait"
    offset = next(c.offset_us for c in analysis.clock if c.offset_us)
    assert offset == pytest.approx(5001.0, abs=2.0)


def test_a_straggler_among_kernels_of_todays_names(tmp_path: Path) -> None:
    write_rank(tmp_path, 0, input_ms=1.0, busy=30.0)
    write_rank(tmp_path, 1, input_ms=1.0, busy=70.0)
    analysis = analysed(tmp_path)
    (late,) = analysis.stragglers
    assert (late.rank, late.class_) == (1, "compute")
    assert late.excess_ms == pytest.approx(40.0, abs=0.5)  # 70 over the other's 30
    assert late.share_of_steps == 1.0
    (row,) = analysis.collectives
    assert (row.name, row.matched_by) == ("all_reduce", "order")

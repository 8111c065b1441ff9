"""Golden example A and the bus factors, against the reference's published values."""

import json
from pathlib import Path
from typing import Any

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.device_totals import device_totals
from perfkit.analyzers.result import Analysis
from perfkit.roofline.collective_cost import bus_factor
from perfkit.trace.kinds import ROLLUP, TimeClass
from tests.analyzers import example_a
from tests.builders import kernel, nccl, rank_trace, run_of, step

RANK0 = {"compute": 68, "comm_transfer": 5, "comm_wait": 5, "memcpy": 2, "input_wait": 10}
RANK0 |= {"checkpoint": 5, "host_launch": 5}
RANK1 = {"compute": 80, "comm_transfer": 5, "checkpoint": 5, "host_launch": 10}
NAMES = {"INPUT": (TimeClass.INPUT_WAIT,), "HOST": tuple(c for c in ROLLUP["host"])}


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    run, load = run_of(example_a.rank0(), example_a.rank1())
    return analyze(run, load)


@pytest.fixture(scope="module")
def goldens(shared_traces: Path) -> dict[str, list[dict[str, Any]]]:
    text = (shared_traces.parent / "reference" / "models_golden.json").read_text()
    return dict(json.loads(text))


def rank_ms(analysis: Analysis, rank: int) -> dict[str, float]:
    """The classes of a rank that took any time, in milliseconds."""
    own = analysis.budget.per_rank[rank].classes
    return {name: found.ms for name, found in own.items() if found is not None and found.ms}


def test_both_ranks_class_every_millisecond(analysis: Analysis) -> None:
    assert rank_ms(analysis, 0) == RANK0
    assert rank_ms(analysis, 1) == RANK1


def test_wait_is_blamed_on_what_the_late_rank_did(analysis: Analysis) -> None:
    blamed = {(b.rank, b.class_): b.ms for b in analysis.verdict.blame}
    # 5 ms of wait on one of two ranks: 2.5 ms in the mean, 16 : 2.5 by excess over the median.
    assert blamed == {
        (1, "compute"): pytest.approx(5 / 2 * 16 / 18.5),
        (1, "host_launch"): pytest.approx(5 / 2 * 2.5 / 18.5),
    }


def test_verdict_after_blame(analysis: Analysis) -> None:
    verdict = analysis.verdict
    assert verdict.rollup_after_blame == {
        "compute": pytest.approx(0.76162, abs=1e-5),
        "communication": pytest.approx(0.05),
        "io": pytest.approx(0.11),
        "host": pytest.approx(0.07838, abs=1e-5),
    }
    assert verdict.margin == pytest.approx(0.65162, abs=1e-5)
    assert (verdict.label, verdict.limiter, verdict.tentative) == ("compute", "io", True)


def test_totals_as_hta_and_tracelens_see_rank0() -> None:
    totals = device_totals(example_a.rank0().events)
    assert totals is not None
    ms = {name: getattr(totals, name) / 1e6 for name in totals.__slots__ if name != "overlap"}
    assert ms == {
        "span_ns": 85,
        "idle_ns": 5,
        "compute_ns": 68,
        "non_compute_ns": 12,
        "comm_ns": 30,
        "exposed_comm_ns": 10,
        "exposed_copy_ns": 2,
    }
    assert totals.overlap == pytest.approx(2 / 3)


def test_totals_need_device_work() -> None:
    assert device_totals(rank_trace(step(0, at_ms=0, ms=10), device_kind="cpu").events) is None


def test_published_attribution(analysis: Analysis, goldens: dict[str, Any]) -> None:
    cases = {case["name"]: case["expected"] for case in goldens["attribution"]}
    assert len(cases) == 4
    for rank in (0, 1):
        own = rank_ms(analysis, rank)
        for name, expected in cases[f"two-rank example rank{rank}"].items():
            classes = NAMES.get(name) or (TimeClass[name],)
            if name == "OTHER":
                continue  # part of HOST in this reading
            assert sum(own.get(c.key, 0.0) for c in classes) == expected, (rank, name)
    totals = device_totals(example_a.rank0().events)
    assert totals is not None
    for name, key in (("kernel_time", "span_ns"), ("idle", "idle_ns"), ("compute", "compute_ns")):
        assert getattr(totals, key) == cases["HTA on rank0"][name] * 1e6
    assert totals.non_compute_ns == cases["HTA on rank0"]["non_compute"] * 1e6
    blame = cases["blame example A"]
    rows = {b.class_: 2 * b.ms for b in analysis.verdict.blame}  # means of two ranks
    assert rows["compute"] == pytest.approx(blame["compute"])
    assert rows["host_launch"] == pytest.approx(blame["host"])
    shares = dict(analysis.verdict.rollup_after_blame)
    shares["comm"] = shares.pop("communication")
    assert shares == pytest.approx(blame["shares"], abs=1e-5)
    assert analysis.verdict.margin == pytest.approx(blame["margin"], abs=1e-5)


def test_published_bus_factors(goldens: dict[str, Any]) -> None:
    for case in goldens["busbw"]:
        ranks, expected = case["input"], case["expected"]
        assert bus_factor("all_reduce", ranks) == pytest.approx(expected["all_reduce"])
        in_network = bus_factor("all_reduce", ranks, in_network=True)
        assert in_network == pytest.approx(expected["allreduce_in_network"], abs=1e-6)
        for op in ("reduce_scatter", "all_gather", "all_to_all"):
            assert bus_factor(op, ranks) == pytest.approx(expected["rs_ag_a2a"])
        for op in ("broadcast", "reduce", "sendrecv"):
            assert bus_factor(op, ranks) == expected[op]


def test_bandwidth_of_a_row_uses_the_transfer_alone() -> None:
    """Rank 0 stays 4 ms in a 1 ms transfer of 4 MB among 2 ranks: 4 GB/s, not 1 GB/s."""
    pair = [
        rank_trace(
            step(0, at_ms=0, ms=20),
            kernel("gemm", at_ms=1, ms=4),
            nccl("all_reduce", at_ms=start, ms=10 - start, elements=10**6, sequence=1),
            rank=rank,
            world_size=2,
        )
        for rank, start in ((0, 6), (1, 9))
    ]
    run, load = run_of(*pair)
    (row,) = analyze(run, load).collectives
    assert (row.transfer_ms, row.wait_ms, row.count) == (1.0, 1.5, 1.0)
    assert row.algbw_gbyte_per_s == pytest.approx(4.0)
    assert row.busbw_gbyte_per_s == pytest.approx(4.0)  # 2(n-1)/n = 1 for two ranks
    assert row.last_arriver == {"1": 1}
    assert row.bytes == 4_000_000

"""Communication by group and by message size adds up to the rows that it was made from."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.groups import group_rows, size_rows
from perfkit.analyzers.result import Analysis
from tests.builders import Item, StepItem, kernel, nccl, rank_trace, run_of, step
from tests.report.parts import collective

ROWS = (
    collective("dp", "all_reduce", 25 << 20, 8, {}, 4.0, 1.0, 9.0),
    collective("dp", "all_gather", 1 << 20, 8, {}, 0.5, None, 9.0),
    collective("tp", "all_reduce", 4096, 2, {}, 0.1, 0.2, 0.1),
    collective("", "broadcast", None, 2, {}, None, None, None),
)  # eleven calls a step each


def test_a_group_sums_its_calls_and_admits_what_it_lacks() -> None:
    found = {row.group: row for row in group_rows(ROWS)}
    assert found["dp"].operations == ("all_gather", "all_reduce")
    assert found["dp"].count == 22
    assert found["dp"].bytes == 11 * (26 << 20)
    assert found["dp"].transfer_ms == pytest.approx(11 * 4.5)
    assert found["dp"].wait_ms is None  # one part is not known
    assert found["tp"].wait_ms == pytest.approx(2.2)
    assert found[""].bytes is None and found[""].exposed_ms == pytest.approx(11 * 2.4)


def test_the_most_exposed_group_comes_first() -> None:
    assert [row.group for row in group_rows(ROWS)] == ["dp", "", "tp"]


def test_sizes_fall_into_bins_of_a_factor_of_four() -> None:
    found = size_rows(ROWS)
    assert [(row.low_bytes, row.high_bytes) for row in found] == [
        (4096, 16384),
        (1 << 20, 4 << 20),
        (16 << 20, 64 << 20),
    ]
    assert sum(row.count for row in found) == 33  # the call of unknown size is left out
    assert sum(row.bytes for row in found) == 11 * ((26 << 20) + 4096)


@pytest.mark.parametrize("size", [1, 3, 4, 15, 16, 4095, 4096, (1 << 30) - 1, 1 << 30])
def test_every_size_lies_in_its_bin(size: int) -> None:
    (row,) = size_rows([collective("", "all_reduce", size, 2, {}, None, None, None)])
    assert row.low_bytes <= size < row.high_bytes


def pairs_of_a_job(groups: Mapping[str, tuple[int, int]], *, named: str = "") -> Analysis:
    """Steps of 100 ms on four ranks: 40 ms of compute, then 30 ms in the rank's own group of two.

    Then 30 ms of compute again.
    """
    traces = []
    for rank in range(4):
        (own,) = [name for name, ranks in groups.items() if rank in ranks]
        items: list[Item | StepItem] = []
        for k in range(7):
            at = 100.0 * k
            items += [
                step(k, at_ms=at, ms=100),
                kernel("gemm", at_ms=at, ms=40),
                nccl("all_reduce", at_ms=at + 40, ms=30, elements=10**6, group=own, sequence=k + 1),
                kernel("gemm", at_ms=at + 70, ms=30),
            ]
        trace = rank_trace(*items, rank=rank, world_size=4, groups={own: groups[own]})
        told = tuple(replace(group, description=named) for group in trace.groups)
        traces.append(replace(trace, groups=told))
    run, load = run_of(*traces)
    return analyze(run, load)


def test_groups_side_by_side_count_once_a_rank() -> None:
    """Two groups of two: every rank sends 4 MB for 30 ms a step, not 8 MB for 60 ms."""
    analysis = pairs_of_a_job({"a": (0, 1), "b": (2, 3)})
    assert [(r.group, r.count, r.callers_share, r.mean_count) for r in analysis.collectives] == [
        ("a", 1.0, 0.5, 0.5),
        ("b", 1.0, 0.5, 0.5),
    ]
    (sizes,) = analysis.message_sizes
    assert (sizes.count, sizes.bytes) == (1.0, 4_000_000.0)
    assert sizes.transfer_ms == pytest.approx(30.0)
    (found,) = analysis.findings
    assert found.id == "no_overlap"
    assert "30.0 ms of 30.0 ms of transfers per step stand alone, beside 70.0 ms" in found.evidence
    assert found.gain_ceiling == pytest.approx(100 / 70)


def test_layers_that_wait_for_tensor_parallel_transfers_cannot_overlap_them() -> None:
    analysis = pairs_of_a_job({"a": (0, 1), "b": (2, 3)}, named="TENSOR_MODEL_PARALLEL_GROUP")
    assert {g.kind for g in analysis.groups} == {"tensor"}
    assert [r.exposed_transfer_ms for r in analysis.collectives] == [pytest.approx(30.0)] * 2
    assert analysis.findings == ()

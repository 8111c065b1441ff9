"""Real nccl-tests logs of eight A100: our bus factors and sweeps give back what they print."""

import statistics
from pathlib import Path
from typing import NamedTuple

import pytest

from perfkit.analyzers.alphabeta import AlphaBetaFit, Observation, fit_alpha_beta
from perfkit.roofline.ceilings import CollectivePoint
from perfkit.roofline.collective_cost import bus_bandwidth_byte_per_s
from perfkit.roofline.sweeps import network_ceiling

RANKS = 8
LOGS = {
    "nccl_allreduce.log": "all_reduce",
    "nccl_allgather.log": "all_gather",
    "nccl_reducescatter.log": "reduce_scatter",
    "nccl_alltoall.log": "all_to_all",
    "nccl_broadcast.log": "broadcast",
    "nccl_reduce.log": "reduce",
}
pytestmark = pytest.mark.parametrize(("log", "op"), LOGS.items(), ids=LOGS.values())


class Row(NamedTuple):
    """One size, out of place, in the log's own units."""

    size_bytes: int
    microseconds: float
    algbw_gb: float
    busbw_gb: float


def rows(path: Path) -> list[Row]:
    """Rows with a size: the numbers stand at the end of the line, N/A between both halves."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = line.split()
        if not cells or not cells[0].isdigit() or "N/A" not in cells:
            continue
        end = cells.index("N/A")
        time, algbw, busbw = (float(cell) for cell in cells[end - 3 : end])
        if int(cells[0]) > 0:
            found.append(Row(int(cells[0]), time, algbw, busbw))
    return found


@pytest.fixture
def measured(shared_traces: Path, log: str) -> list[Row]:
    return rows(shared_traces / "nccl-tests" / log)


def test_bus_bandwidth_is_the_one_that_nccl_prints(measured: list[Row], op: str, log: str) -> None:
    large = [row for row in measured if row.busbw_gb > 5]  # small ones are printed with two digits
    assert len(large) > 8
    for row in large:
        ours = bus_bandwidth_byte_per_s(op, row.size_bytes, RANKS, row.microseconds * 1e-6)
        assert ours / 1e9 == pytest.approx(row.busbw_gb, rel=2e-3)
        assert row.size_bytes / row.microseconds / 1e3 == pytest.approx(row.algbw_gb, rel=2e-3)


def test_a_sweep_becomes_the_bandwidth_and_latency_of_the_log(
    measured: list[Row], op: str, log: str
) -> None:
    used = [row for row in measured if row.size_bytes >= 1 << 10]
    points = [CollectivePoint(bytes=r.size_bytes, seconds=r.microseconds * 1e-6) for r in used]
    found = network_ceiling(op, "nccl", points, ranks=RANKS, nodes=1)
    largest = statistics.median(row.busbw_gb for row in used[-3:])
    assert found.bus_bytes_per_s / 1e9 == pytest.approx(largest, rel=2e-3)
    assert 0.9 <= found.alpha_s / (used[0].microseconds * 1e-6) <= 1


def test_latency_and_bandwidth_fit_the_log(measured: list[Row], op: str, log: str) -> None:
    """Over three decades and several protocols: large sizes decide the bandwidth."""
    seen = [
        Observation(op=op, ranks=RANKS, size_bytes=r.size_bytes, transfer_s=r.microseconds * 1e-6)
        for r in measured
    ]
    fit = fit_alpha_beta(seen, seed=0, draws=50)
    assert isinstance(fit, AlphaBetaFit)
    largest = statistics.median(row.busbw_gb for row in measured[-3:])
    last = fit.regimes[-1]
    assert last.bandwidth_byte_per_s / 1e9 == pytest.approx(largest, rel=0.1)
    assert fit.alpha_s is not None and 0 < fit.alpha_s < 40e-6

"""GPU time of real captures against the tables that TraceLens published beside them.

TraceLens leaves out device work whose launch is not in the file and counts memsets as computation.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from perfkit.trace.kinds import FIRST_DEVICE_KIND, LAST_WORK_KIND, Kind
from perfkit.trace.kineto import read_kineto
from perfkit.trace.model import I64, NONE, RankTrace
from tests.trace.naive import union_ns

COPIES = (Kind.MEMCPY_H2D, Kind.MEMCPY_D2H, Kind.MEMCPY_D2D, Kind.MEMCPY_P2P)


def published(path: Path) -> tuple[dict[str, float], bool]:
    """Return the table's milliseconds by row, and whether recomputation was taken out of it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if row.get("is_recompute") != "True"]
    return {row["type"]: float(row["time ms"]) for row in own}, len(own) < len(rows)


def near(milliseconds: float) -> object:
    """Allow 20 ns: TraceLens adds doubles that have steps of about 1 ns."""
    return pytest.approx(milliseconds, abs=2e-5)


def union_ms(trace: RankTrace, rows: I64) -> float:
    events = trace.events
    spans: Iterable[tuple[int, int]] = zip(
        events.start_ns[rows].tolist(), events.end_ns[rows].tolist(), strict=True
    )
    return union_ns(spans) / 1e6


@pytest.mark.parametrize(
    "name",
    ["h100_bert", "h100_qwen", "mi300_bert", "mi300_ddp_resnet", "mi300_qwen", "triton_compile"],
)
def test_gpu_timeline(shared_traces: Path, name: str) -> None:
    folder = shared_traces / "tracelens"
    table, is_split = published(folder / f"{name}_csvs" / "gpu_timeline.csv")
    trace = read_kineto(folder / f"{name}.json.gz")
    kind = trace.events.kind
    work = (kind >= FIRST_DEVICE_KIND) & (kind <= LAST_WORK_KIND)
    launched = np.flatnonzero(work & (trace.events.launch != NONE))
    copies = launched[np.isin(kind[launched], COPIES)]
    communication = launched[kind[launched] == Kind.COMM_KERNEL]
    starts, ends = trace.events.start_ns[launched], trace.events.end_ns[launched]
    assert (ends.max() - starts.min()) / 1e6 == near(table["total_time"])
    if not is_split:  # reading does not know which kernels recompute
        assert union_ms(trace, launched) == near(table["busy_time"])
    assert union_ms(trace, copies) == near(table["total_memcpy_time"])
    assert union_ms(trace, communication) == near(table["total_comm_time"])

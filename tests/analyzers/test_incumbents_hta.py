"""The three cases of test_incumbents.py in HTA itself, where it is installed (`make hta`).

HTA 0.6.1 as published (traceinsight): what it says of these traces is held here, so that the page
that claims it is right about it, and so that we hear of it when HTA has changed.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.analyzers.test_incumbents import analysed, write_rank

TODAY = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
OLD = "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)"


@pytest.fixture(scope="module")
def hta() -> Any:
    """The module of HTA that reads traces; skips without it."""
    return pytest.importorskip("hta.trace_analysis", reason="needs HTA (the extra hta)")


def opened(hta: Any, folder: Path) -> Any:
    files = {rank: str(folder / f"rank{rank}.json") for rank in (0, 1)}
    return hta.TraceAnalysis(trace_files=files, trace_dir=str(folder))


def test_hta_calls_rank_0_communication_bound(hta: Any, tmp_path: Path) -> None:
    """Rank 1's loader takes 69 ms longer; to HTA rank 0 communicates, and rank 1 is idle."""
    write_rank(tmp_path, 0)
    write_rank(tmp_path, 1)
    found = opened(hta, tmp_path).get_temporal_breakdown(visualize=False).set_index("rank")
    assert found["non_compute_time_pctg"][0] == pytest.approx(80, abs=1)
    assert found["idle_time_pctg"][1] > 60
    assert analysed(tmp_path).verdict.label == "io"


def test_hta_blames_rank_0_where_rank_1s_clock_is_behind(hta: Any, tmp_path: Path) -> None:
    """Rank 1 comes 3 ms late, its clock is 5 ms behind; kernels have the names that HTA knows."""
    write_rank(tmp_path, 0, clock_ms=0.001, input_ms=10.0, busy=60.0)
    write_rank(tmp_path, 1, clock_ms=-5.0, input_ms=18.0, busy=55.0)
    for file in tmp_path.glob("rank*.json"):
        text = file.read_text(encoding="utf-8")
        assert TODAY in text
        file.write_text(text.replace(TODAY, OLD), encoding="utf-8")
    assert opened(hta, tmp_path).get_potential_stragglers(num_candidates=1) == [0]
    blame = analysed(tmp_path).verdict.blame
    assert blame[0].rank == 1 and 0 not in {b.rank for b in blame}


def test_hta_raises_on_todays_names(hta: Any, tmp_path: Path) -> None:
    write_rank(tmp_path, 0, input_ms=1.0, busy=30.0)
    write_rank(tmp_path, 1, input_ms=1.0, busy=70.0)
    with pytest.raises(ValueError, match="argmax of an empty sequence"):
        opened(hta, tmp_path).get_potential_stragglers()
    assert [(s.rank, s.class_) for s in analysed(tmp_path).stragglers] == [(1, "compute")]

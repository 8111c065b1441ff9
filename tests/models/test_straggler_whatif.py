"""The published slow-downs of a production Megatron job (OSDI'25 artifact), and small truths."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perfkit.analyzers.megatron_graph import PipelineOps, megatron_graph
from perfkit.analyzers.straggler_whatif import StragglerWhatIf, straggler_what_if


@pytest.fixture(scope="module")
def folder(shared_traces: Path) -> Path:
    return shared_traces / "straggler"


@pytest.fixture(scope="module")
def result(folder: Path) -> StragglerWhatIf:
    table = pl.read_parquet(folder / "trace-ST.parquet")
    return straggler_what_if(
        PipelineOps(
            step=table["step"].to_numpy().astype(np.int64),
            replica=table["dp_rank"].to_numpy().astype(np.int64),
            stage=table["stage"].to_numpy().astype(np.int64),
            kind=tuple(table["optype"].cast(pl.String).to_list()),
            sequence=table["seq_id"].to_numpy().astype(np.int64),
            start_s=table["start_ts"].to_numpy().astype(np.float64),
            duration_s=table["duration"].to_numpy().astype(np.float64),
        )
    )


def test_the_published_slow_down(result: StragglerWhatIf, folder: Path) -> None:
    published = json.loads((folder / "result-ST.json").read_text())
    assert result.slow_down == pytest.approx(1.1787, rel=1e-4)
    assert result.slow_down == pytest.approx(published["blocking_slowdown"], rel=1e-5)
    assert result.waste == pytest.approx(0.1516, abs=5e-5)
    assert result.actual_s == pytest.approx(2.172697, rel=1e-5)
    assert result.ideal_s == pytest.approx(1.843296, rel=1e-5)
    steps = {int(s): r for s, r in published["blocking_step_slowdown"].items()}
    assert result.by_step == pytest.approx(steps, rel=1e-4)


def test_the_published_parts(result: StragglerWhatIf, folder: Path) -> None:
    published = json.loads((folder / "result-ST.json").read_text())
    stages = {int(k): v for k, v in published["blocking_decompose_by_stage"].items()}
    assert stages[3] == pytest.approx(1.2322559)
    assert result.by_stage == pytest.approx(stages, rel=1e-4)
    replicas = {int(k): v for k, v in published["blocking_decompose_by_dp_rank"].items()}
    assert result.by_replica == pytest.approx(replicas, rel=1e-4)
    assert result.by_kind == pytest.approx(published["blocking_decompose_by_optype"], rel=1e-4)


def test_what_fixing_the_suspects_would_win(result: StragglerWhatIf, folder: Path) -> None:
    last_stage = json.loads((folder / "ms-ST.json").read_text())
    worker = json.loads((folder / "mw-ST.json").read_text())
    assert result.fixed_last_stage_share == pytest.approx(last_stage["Ms"], rel=1e-4)
    assert result.fixed_suspects_share == pytest.approx(worker["Mw"], rel=1e-3)


def one_step(compute: dict[int, float]) -> PipelineOps:
    """Return two replicas of one stage whose forward takes the given time, then meet to clip."""
    rows = []
    for replica, seconds in compute.items():
        latest = max(compute.values())
        rows += [
            (replica, "forward-compute", 0.0, seconds),
            (replica, "backward-compute", seconds, 1.0),
            (replica, "optimizer-clip-main-grad", seconds + 1, latest - seconds + 0.5),
            (replica, "optimizer", latest + 1.5, 0.25),
        ]
    return PipelineOps(
        step=np.zeros(len(rows), np.int64),
        replica=np.array([r[0] for r in rows]),
        stage=np.zeros(len(rows), np.int64),
        kind=tuple(r[1] for r in rows),
        sequence=np.zeros(len(rows), np.int64),
        start_s=np.array([r[2] for r in rows]),
        duration_s=np.array([r[3] for r in rows]),
    )


def test_a_slow_replica_of_known_cost() -> None:
    result = straggler_what_if(one_step({0: 3.0, 1: 1.0}))
    assert result.actual_s == pytest.approx(3 + 1 + 0.5 + 0.25)
    assert result.ideal_s == pytest.approx(2 + 1 + 0.5 + 0.25)
    assert result.by_replica == pytest.approx({0: 4.75 / 3.75, 1: 1.0})
    assert result.suspects == (0,)
    assert result.fixed_suspects_share == pytest.approx(1.0)


def test_equal_replicas_lose_nothing() -> None:
    result = straggler_what_if(one_step({0: 2.0, 1: 2.0}))
    assert result.slow_down == pytest.approx(1)
    assert result.waste == pytest.approx(0)
    assert result.fixed_suspects_share is None


def test_a_pipeline_without_its_messages_is_refused() -> None:
    whole = one_step({0: 1.0})
    stages = PipelineOps(
        step=whole.step,
        replica=whole.replica,
        stage=np.array([0, 0, 0, 1]),
        kind=whole.kind,
        sequence=whole.sequence,
        start_s=whole.start_s,
        duration_s=whole.duration_s,
    )
    with pytest.raises(ValueError, match="stage 1"):
        megatron_graph(stages)

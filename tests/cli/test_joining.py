"""Several parents that share a run folder: one of them makes the verdict, after the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import decode
from perfkit.cli import joining
from tests.truth.harness import two_nodes

ROOT = Path(__file__).parents[2]


def record_node(run: Path, node: str, *, ended: bool) -> None:
    folder = run / "nodes" / node
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema_version": 1, "run_id": "r", "ended_unix_ns": 2_000 if ended else None}
    (folder / "run.json").write_text(json.dumps(document))


def record_rank(run: Path, rank: int, node: str, world_size: int = 2) -> None:
    folder = run / "attempt0" / f"rank{rank:05d}.{node}.{100 + rank}"
    folder.mkdir(parents=True)
    facts = {"schema_version": 1, "rank": rank, "world_size": world_size, "parent_node": node}
    (folder / "facts.json").write_text(json.dumps(facts | {"attempt": 0, "run_id": "r"}))
    lines = [{"k": "header", "schema_version": 1, "rank": rank}]
    lines += [
        {"k": "step", "i": i, "t0": i * 1000, "t1": (i + 1) * 1000, "u1": (i + 1) * 1000}
        | {"in": 0, "ck": 0, "mb": 1, "ev": 0, "pr": 0}
        for i in range(3)
    ]
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Make a run of two nodes with a rank each, of which b still runs."""
    record_node(tmp_path, "a", ended=True)
    record_node(tmp_path, "b", ended=False)
    record_rank(tmp_path, 0, "a")
    record_rank(tmp_path, 1, "b")
    return tmp_path


def test_the_other_node_leaves_the_verdict_to_the_first(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not joining.await_turn(shared, "b")
    said = capsys.readouterr().err
    assert "rank 0's perfkit, on a, makes the verdict" in said
    assert f"Next: perfkit analyze {shared}" in said


def test_the_first_node_waits_until_the_other_has_ended(
    shared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            record_node(shared, "b", ended=True)

    monkeypatch.setattr("time.sleep", nap)
    assert joining.await_turn(shared, "a")
    assert len(naps) == 3
    assert capsys.readouterr().err == ""


def test_the_wait_ends(
    shared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def nap(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("time.sleep", nap)
    assert joining.await_turn(shared, "a", clock=lambda: now[0])
    assert now[0] == joining.JOIN_SECONDS
    assert "b still runs after 60 s" in capsys.readouterr().err


def test_ranks_elsewhere_are_joined_by_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_node(tmp_path, "a", ended=True)
    record_rank(tmp_path, 0, "a", world_size=2)
    assert joining.await_turn(tmp_path, "a")
    said = capsys.readouterr().err
    assert "1 of 2 ranks are in this folder" in said
    assert f"perfkit analyze {tmp_path} THEIR_FOLDERS" in said


def test_a_run_of_one_parent_waits_for_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_node(tmp_path, "a", ended=True)
    for rank in (0, 1):
        record_rank(tmp_path, rank, "a")
    assert joining.await_turn(tmp_path, "a")
    assert capsys.readouterr().err == ""


@pytest.mark.real
@pytest.mark.needs_tc
def test_two_machines_with_a_shared_folder(tmp_path: Path) -> None:
    with two_nodes("1gbit") as nodes:
        started = [
            subprocess.Popen(
                [
                    *(*node.prefix, "OMP_NUM_THREADS=1", sys.executable, "-m", "perfkit"),
                    *("profile", "--out=run", "--window=2:11", "--"),
                    *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2"),
                    *(f"--node-rank={number}", "--nproc-per-node=1"),
                    *(f"--master-addr={nodes[0].address}", "--master-port=29611"),
                    *(str(ROOT / "examples" / "train_gpt_ddp.py"), "--steps=14"),
                    *("--batch-size=2", "--context=32", "--layers=2", "--width=64"),
                ],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            for number, node in enumerate(nodes)
        ]
        said = [process.communicate(timeout=250)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert decode((tmp_path / "run" / "analysis.json").read_bytes()).world.nodes == 2
    assert "run/report.html" in said[0]
    assert "makes the verdict" in said[1]

"""A real training of two ranks, from `perfkit profile` to the page, through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import decode
from tests.cli.conftest import Call

ROOT = Path(__file__).parents[2]
TRAINING = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    *(str(ROOT / "examples" / "train_gpt_ddp.py"), "--steps=14", "--batch-size=2"),
    *("--context=32", "--layers=2", "--width=64"),
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def plain() -> bytes:
    """Return what the training prints without perfkit."""
    return subprocess.run(
        TRAINING, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True, timeout=250
    ).stdout


def test_profile_analyze_report(perfkit_process: Call, tmp_path: Path, plain: bytes) -> None:
    ended = perfkit_process(
        *("profile", "--out=run", "--window=4:11", "--", *TRAINING), environment=ENVIRONMENT
    )
    assert ended.status == 0, ended.err
    assert ended.out.encode() == plain
    assert "no verdict" not in ended.err
    assert "run/report.html" in ended.err
    run = tmp_path / "run"
    recorded = (run / "analysis.json").read_bytes()
    page = (run / "report.html").read_text()
    analysis = decode(recorded)
    assert analysis.world.analysed_ranks == (0, 1)
    assert analysis.steps.analysed == 8

    again = perfkit_process("analyze", "run", "--json", "--out=again")
    assert again.status == 0, again.err
    assert json.loads(again.out) == json.loads(recorded)
    assert (tmp_path / "again" / "analysis.json").read_bytes() == recorded
    assert (tmp_path / "again" / "report.html").read_text() == page

    summary = perfkit_process("analyze", "run")
    assert (summary.status, "\x1b" in summary.out) == (0, False)
    assert summary.out.splitlines()[0] in ended.err

    traces = perfkit_process("analyze", *run.glob("attempt0/rank*/trace-*.json.gz"))
    assert traces.status == 0, traces.err
    assert (tmp_path / "perfkit-runs").is_dir()

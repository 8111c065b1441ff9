"""Real pipelines of two gloo ranks: the schedule that ran is the schedule that is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import decode
from tests.conftest import ROOT

TRAINING = Path(__file__).with_name("pipeline_training.py")


@pytest.mark.real
@pytest.mark.parametrize(
    ("schedule", "source"), [("gpipe", "names of passes"), ("1f1b", "sends and receives")]
)
def test_the_schedule_of_a_real_pipeline(tmp_path: Path, schedule: str, source: str) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "tests.ranks", "2", str(TRAINING), schedule]
    done = subprocess.run(
        [sys.executable, "-m", "perfkit", "profile", "--out", str(run), "--", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    found = decode((run / "analysis.json").read_bytes()).pipeline
    assert found is not None
    assert (found.schedule, found.micro_batches, found.stages) == (schedule, 4, 2)
    assert found.exact and found.source == source
    assert found.formula_over_ideal == pytest.approx(1 / 4)

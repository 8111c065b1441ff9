"""The training is the user's: same output, same end, and nothing lost when a rank is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.trace.run import open_run
from tests.truth.harness import PERFKIT, ROOT, TORCHRUN, run_workload

GPT = [str(ROOT / "examples" / "train_gpt_ddp.py"), "--width=64", "--layers=2", "--context=32"]
SPAWN = [str(ROOT / "examples" / "train_gpt_spawn.py"), "--width=64", "--steps=14"]
CNN = [str(ROOT / "examples" / "train_cnn_ddp.py"), "--width=4", "--images=64", "--image-size=32"]
LOCAL = [*TORCHRUN, "--standalone", "--nproc-per-node=2"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([*LOCAL, *CNN, "--steps=14", "--workers=1"], marks=pytest.mark.real),
        pytest.param([sys.executable, *SPAWN], marks=pytest.mark.real),
        [sys.executable, *GPT, "--steps=14"],
    ],
    ids=["torchrun-cnn", "spawn", "alone"],  # and torchrun with GPT: tests/cli/test_end_to_end.py
)
def test_examples_print_the_same_with_and_without(command: list[str], tmp_path: Path) -> None:
    if "--images=64" in command:
        command = [*command, f"--data={tmp_path / 'images'}"]
    plain = subprocess.run(command, capture_output=True, check=True, timeout=250)
    ours = [*PERFKIT, "profile", f"--out={tmp_path / 'run'}", "--window=8:12", "--", *command]
    profiled = subprocess.run(ours, capture_output=True, check=False, timeout=250, cwd=ROOT)

    assert profiled.returncode == 0, profiled.stderr.decode()
    assert profiled.stdout == plain.stdout
    assert plain.stdout.count(b"loss") >= 14
    # the promise of the demo: a verdict in the terminal, a report and an analysis on disk
    assert "bound" in profiled.stderr.decode() or "mixed" in profiled.stderr.decode()
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    analysis = json.loads((tmp_path / "run" / "analysis.json").read_text())
    assert analysis["steps"]["analysed"] == 5
    ranks = 1 if "torch.distributed.run" not in command and "spawn" not in command[1] else 2
    assert analysis["world"]["size"] == ranks


@pytest.mark.real
def test_killed_rank_keeps_every_completed_step(tmp_path: Path) -> None:
    flags = ("--accelerator-ms=20", "--fault-ranks", "1", "--kill-at-step=17")
    ended = run_workload(tmp_path, *flags, window=(5, 12))
    assert ended.statuses == (1,)  # torchrun's own status when a rank dies

    run = open_run([ended.run])
    for record in run.ranks:
        own = [truth.step for truth in ended.truth[record.rank]]
        assert own[-1] >= 16
        assert record.lines.index.tolist() == own
    assert run.ranks[1].ended == "killed"

    analysis = ended.analyze()
    assert analysis.steps.recorded == 17
    assert analysis.steps.analysed == 8
    about_rank_1 = [i for i in analysis.quality.issues if 1 in i.ranks]
    assert any("kill" in i.message.lower() for i in about_rank_1), analysis.quality.issues


@pytest.mark.real
def test_rank_killed_inside_the_window_leaves_its_steps(tmp_path: Path) -> None:
    flags = ("--accelerator-ms=20", "--fault-ranks", "1", "--kill-at-step=15")
    ended = run_workload(tmp_path, *flags, window=(10, 19))
    run = open_run([ended.run])
    for record in run.ranks:
        assert record.lines.index.tolist() == [t.step for t in ended.truth[record.rank]]
    analysis = ended.analyze()
    assert analysis.steps.recorded == 15
    # its trace died with it: what a single rank's trace cannot say is not said
    missing = [i for i in analysis.quality.issues if i.ranks == (1,)]
    assert missing, analysis.quality.issues
    assert analysis.verdict.label == "undetermined" or analysis.quality.status != "ok"

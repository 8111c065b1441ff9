"""`perfkit faults`: what it refuses, and a real rank that dies and comes back."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "train_gpt_ddp.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SMALL = ["--width=32", "--layers=1", "--context=16", "--batch-size=2", "--steps=12"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "faults needs a command after --"),
        (["--", "python", "train.py"], "the command has no {run}"),
        (["--mtbf", "soon", "--", "python", "{run}"], "--mtbf soon: not understood"),
    ],
)
def test_refusals_are_one_line(perfkit: Call, arguments: list[str], says: str) -> None:
    ended = perfkit("faults", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err


def test_a_command_that_fails_by_itself_is_no_fault_run(perfkit: Call, tmp_path: Path) -> None:
    ended = perfkit("faults", "--out", tmp_path / "o", "--", sys.executable, "-c", "1/0", "{run}")
    assert (ended.status, ended.out) == (3, "")
    assert "the run without a kill failed" in ended.err
    assert "ZeroDivisionError" in ended.err


def test_a_command_that_changes_files_of_the_user_is_not_run_again(
    perfkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("precious")
    run = ["--", sys.executable, "-c", "open('mine.txt', 'w').write('{run}')"]
    ended = perfkit("faults", "--out", "first", "--workdir", "copy", *run)
    assert ended.status == 3  # it trained nothing
    assert Path("mine.txt").read_text() == "precious"
    ended = perfkit("faults", "--out", "second", *run)
    assert (ended.status, ended.out) == (2, "")
    assert "CLEARML_OFFLINE_MODE=1" in ended.err
    assert "a run changes files that were here before: mine.txt" in ended.err


@pytest.mark.real
def test_a_killed_rank_comes_back_to_its_losses(
    perfkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [*TORCHRUN, str(EXAMPLE), *SMALL, "--checkpoint={run}", "--checkpoint-every=4"]
    out = tmp_path / "out"
    ended = perfkit("faults", "--json", "--out", out, "--", *command, "--resume-if-any")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    assert (found["verdict"], found["killed_rank"], found["killed_after_step"]) == ("resumed", 1, 6)
    assert (found["resumed_at_step"], found["lost_steps"], found["steps_done"]) == (4, 3, 12)
    assert found["difference"] == 0
    assert len([p for p in found["losses"] if p["attempt"] == 1]) == 2 * 8
    times = found["times"]
    parts = [times[key] for key in ("detection_s", "restart_s", "lost_work_s")]
    assert sum(parts) == pytest.approx(times["total_s"])
    assert min(parts) > 0
    assert found["fleet"][-1]["ranks"] == 10_000
    page = (out / "faults.html").read_text()
    assert found["sentence"] in page
    assert "How often to checkpoint" in page

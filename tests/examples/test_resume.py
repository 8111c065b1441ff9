"""A resumed example continues bit for bit: losses, weights and optimizer state."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TWO_RANKS = [sys.executable, "-m", "tests.ranks", "2"]

SMALL_GPT = ["--width=32", "--layers=2", "--context=16", "--batch-size=4"]
SMALL_CNN = ["--width=4", "--image-size=16", "--images=32", "--batch-size=4"]
COMMANDS = {
    "gpt": [*TWO_RANKS, str(EXAMPLES / "train_gpt_ddp.py"), *SMALL_GPT],
    "cnn": [*TWO_RANKS, str(EXAMPLES / "train_cnn_ddp.py"), *SMALL_CNN, "--workers=1"],
    "spawn": [sys.executable, str(EXAMPLES / "train_gpt_spawn.py"), "--width=32", "--ranks=1"],
    "alone": [sys.executable, str(EXAMPLES / "train_gpt_ddp.py"), *SMALL_GPT],
}


def losses(command: list[str], *flags: str) -> list[str]:
    """Run a training and return the lines it printed."""
    done = subprocess.run(
        [*command, *flags],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def same(left: Any, right: Any) -> bool:
    """Compare two states, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("gpt", marks=pytest.mark.real),
        pytest.param("cnn", marks=pytest.mark.real),
        "spawn",
        "alone",
    ],
)
def test_resumed_run_equals_uninterrupted_run(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    if name == "cnn":
        # 4 steps an epoch: step 6 lies in the middle of the second, the end in the third
        command = [*command, f"--data={tmp_path / 'images'}"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    every = "--checkpoint-every=3"
    expected = losses(command, "--steps=9", every, f"--checkpoint={whole}")
    first = losses(command, "--steps=6", every, f"--checkpoint={halves}")
    second = losses(command, "--steps=9", every, f"--checkpoint={halves}", "--resume")

    assert len(expected) == 9
    assert first + second == expected
    ends = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, halves)]
    assert ends[0]["step"] == 9
    assert same(*ends)


def test_resume_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    command = [*COMMANDS["alone"], "--resume", f"--checkpoint={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 1
    assert "there is no" in done.stderr
    assert "Traceback" not in done.stderr

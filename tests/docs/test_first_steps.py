"""README and quick start, typed line by line as a newcomer would, on a training of their own."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, shell_lines

TRAINING = """
import time, torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(*[nn.Linear(256, 256) for _ in range(4)]))
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
data = torch.utils.data.TensorDataset(torch.randn(24 * 32, 256))
for (batch,) in torch.utils.data.DataLoader(data, 32):
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
time.sleep(0.05)
"""
NOT_HERE = {"make", "pip"}  # pip: this environment has perfkit; make: the targets' own runs


@pytest.mark.real
def test_every_line_of_readme_and_quick_start_runs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    done: set[str] = set()
    for page in (ROOT / "README.md", ROOT / "docs/quick-start.md"):
        for words in shell_lines(page):
            if words[0] not in NOT_HERE and " ".join(words) not in done:
                done.add(" ".join(words))
                if not recorded_before(words, tmp_path):
                    run(words, tmp_path)
    assert len(done) >= 7
    assert (tmp_path / "before/report.html").stat().st_size > 100_000


def recorded_before(words: list[str], folder: Path) -> bool:
    """Take the first run for a third one: only the names of their folders differ."""
    if words[:4] != ["perfkit", "profile", "--out", "after"]:
        return False
    (first,) = (folder / "perfkit-runs").iterdir()
    shutil.copytree(first, folder / "after")
    return True


def run(words: list[str], folder: Path) -> None:
    if "perfkit-runs/..." in words:
        (recorded,) = (folder / "perfkit-runs").iterdir()
        words = [str(recorded) if word == "perfkit-runs/..." else word for word in words]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    assert shutil.which(words[0], path=path)
    started = time.monotonic()
    ended = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert ended.returncode == 0, (words, ended.stderr[-2000:])
    assert "Traceback" not in ended.stderr
    if words[1] == "profile":
        assert re.search(r"^perfkit: (bound by|mixed|undetermined|cannot)", ended.stderr, re.M), (
            ended.stderr[-2000:]
        )
    print(f"{time.monotonic() - started:5.1f} s  {' '.join(words)}")

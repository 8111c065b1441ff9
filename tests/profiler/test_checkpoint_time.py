"""Which calls count as checkpoint time: the write, its flush and its move; never a pickle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import io, os, pickle, shutil, sys, time
sys.path.insert(0, {inrank_parent!r})
real = {{name: getattr(os, name) for name in ("replace", "rename", "fsync")}}
def slow(name):
    def call(*args, **kwargs):
        time.sleep(0.02)
        return real[name](*args, **kwargs)
    return call
for name in real:
    setattr(os, name, slow(name))
import torch
from inrank import checkpoints
from inrank.tally import tally
checkpoints.install({{}})
tally.begin(1)

def spent(action):
    before = tally.checkpoint_ns
    action()
    return (tally.checkpoint_ns - before) / 1e6

def atomic():
    with open("draft", "wb") as file:
        torch.save(weights, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace("draft", "final")

def moved():
    torch.save(weights, "draft")
    shutil.move("draft", "moved")

def other():
    open("elsewhere/log.txt", "w").close()
    os.replace("elsewhere/log.txt", "elsewhere/log.old")

weights = torch.zeros(1000)
torch.save(weights, "warm")
print(*(spent(action) for action in (
    atomic, moved, other,
    lambda: pickle.loads(pickle.dumps(weights.storage())),
    lambda: pickle.loads(pickle.dumps(weights)),
)))
"""


def test_flush_and_move_of_a_saved_file_count_and_nothing_else(tmp_path: Path) -> None:
    """Each call into the file system is made to take 20 ms more."""
    (tmp_path / "elsewhere").mkdir()
    profiler = Path(__file__).parents[2] / "profiler"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(inrank_parent=str(profiler))],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    atomic, moved, other, storage, tensor = map(float, done.stdout.split())
    assert atomic >= 40
    assert moved >= 20
    assert other == storage == tensor == 0
    assert (tmp_path / "final").exists()

"""Real two-rank trainings, fully sharded and tensor parallel: both are told from what they send."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.parallel import Parallelism
from perfkit.trace import run as run_folder
from tests.roofline.sharded_training import BLOCKS, ROWS, WIDTH
from tests.truth.harness import ROOT, profiled

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).with_name("sharded_training.py")
PARAMETERS = BLOCKS * 2 * WIDTH * 4 * WIDTH


def parallelism(folder: Path, kind: str) -> Parallelism:
    launch = [sys.executable, "-m", "tests.ranks", "2", str(SCRIPT), kind]
    command = profiled(launch, folder / "run", (4, 8))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr.decode()
    run = run_folder.open_run([folder / "run"])
    found = roofline_of(run, partial(run_folder.load_rank, cache=None), None)
    (group,) = found.parallelism
    return group


def test_fully_sharded_ranks_gather_what_they_reduce(tmp_path: Path) -> None:
    group = parallelism(tmp_path, "fsdp")
    assert group.kind == "fsdp"
    assert group.elements == PARAMETERS  # though each rank holds half of them
    assert group.item_bytes == 4


def test_tensor_parallel_ranks_reduce_activations_in_both_passes(tmp_path: Path) -> None:
    group = parallelism(tmp_path, "tensor")
    assert group.kind == "tensor"
    # One a block and pass; the data that come in need no gradient.
    assert group.elements == (2 * BLOCKS - 1) * ROWS * WIDTH

"""`perfkit analyze` on traces of other tools: what its options do, and what it refuses."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.trace.nsys_files import Export

STEPS = 4


@pytest.fixture
def export(tmp_path: Path) -> Path:
    made = Export()
    for step in range(STEPS):
        at = 1_000_000 * step
        made.range(f"fwd-bwd {step + 5}", at, at + 1_000_000)
        made.call("cudaLaunchKernel_v7000", at + 1_000, at + 5_000, step + 1)
        made.kernel("gemm", at + 10_000, at + 900_000, step + 1)
    return made.write(tmp_path / "train.sqlite")


def test_steps_are_the_ranges_that_the_pattern_names(perfkit: Call, export: Path) -> None:
    out = str(export.parent / "out")
    whole = json.loads(perfkit("analyze", str(export), "--json", "--out", out).out)
    assert whole["steps"]["analysed"] == 1
    named = perfkit(
        "analyze", str(export), "--json", "--out", out, "--step-nvtx", r"^fwd-bwd (\d+)$"
    )
    analysis = json.loads(named.out)
    assert analysis["steps"]["analysed"] == STEPS - 1  # the last has no successor to end it
    assert analysis["budget"]["classes"]["compute"]["ms"] == pytest.approx(0.89)


def test_one_process_gives_the_same_bytes(perfkit: Call, export: Path) -> None:
    first = perfkit("analyze", str(export), "--json", "--out", str(export.parent / "a")).out
    second = perfkit(
        "analyze", str(export), "--json", "--jobs", "1", "--out", str(export.parent / "b")
    ).out
    assert first == second


def test_a_pattern_that_is_none_is_refused(perfkit: Call, export: Path) -> None:
    ended = perfkit("analyze", str(export), "--step-nvtx", "step (")
    assert ended.status == 2
    assert "--step-nvtx 'step (' is no regular expression" in ended.err
    assert ended.err.count("\n") == 1

"""Real repeated runs: a slow-down that was put in is found, with its class and its size."""

from pathlib import Path

import pytest

from perfkit.analyzers.compare import compare
from perfkit.analyzers.comparison import Comparison
from perfkit.analyzers.result import Analysis
from tests.truth.harness import run_quietly

RUNS = 2
HOST_MS = 30.0


def repeated(folder: Path, *flags: str) -> list[Analysis]:
    found = []
    for number in range(RUNS):
        ended = run_quietly(folder / str(number), "--accelerator-ms=30", "--steps=24", *flags)
        found.append(ended.analyze())
    return found


@pytest.mark.real
def test_a_slower_host_is_found_and_named(tmp_path: Path) -> None:
    base = repeated(tmp_path / "base")
    new = repeated(tmp_path / "new", f"--host-ms={HOST_MS}")
    found = compare(base, new, max_slowdown=0.03)
    assert isinstance(found, Comparison) and found.gate is not None
    speed = found.speed[0]
    assert speed.new_mean_ms - speed.base_mean_ms == pytest.approx(HOST_MS, rel=0.3)
    assert found.classes[0].name == "host_launch"
    assert found.classes[0].change_ms == pytest.approx(HOST_MS, rel=0.3)
    assert all(row.mostly == "host_launch" for row in found.ranks)
    assert found.verdict in ("slower", "no_difference_shown")  # two runs a side: t of 2 at least
    if speed.low is not None and speed.low > 1.03:
        assert found.gate.outcome == "failed"
    alike = compare(base[:1], base[1:], max_slowdown=0.03)
    assert isinstance(alike, Comparison) and alike.gate is not None
    assert (alike.verdict, alike.gate.outcome) == ("cannot_tell", "cannot_tell")

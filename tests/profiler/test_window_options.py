"""What a window may record beside operators, and how much: --memory, --with-stack, --max-bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from perfkit.profiler.inrank.capture import Detail
from perfkit.profiler.inrank.window import Window
from tests.profiler.window_rank import WindowRank


def run_steps(folder: Path, detail: Detail, *windows: tuple[int, int]) -> WindowRank:
    """Make twelve equal steps with these windows."""
    rank = WindowRank(folder)
    window = Window(rank, windows, detail)
    model = torch.nn.Linear(64, 64)
    for rank.step in range(13):
        window.at_boundary()
        for _ in range(20):
            model(torch.ones(8, 64)).sum().backward()
    window.finish(unfinished=False)
    return rank


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / name).read_bytes())["traceEvents"]
    return loaded


def traces(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_memory_records_allocations(tmp_path: Path) -> None:
    run_steps(tmp_path, Detail(memory=True), (3, 4))
    (name,) = traces(tmp_path)
    assert sum(event["name"] == "[memory]" for event in events(tmp_path, name)) > 20


def test_stacks_come_with_the_names_of_modules(tmp_path: Path) -> None:
    run_steps(tmp_path, Detail(with_stack=True), (3, 4))
    (name,) = traces(tmp_path)
    assert any("nn.Module: Linear" in event["name"] for event in events(tmp_path, name))


def test_without_a_limit_the_window_is_whole(tmp_path: Path) -> None:
    rank = run_steps(tmp_path, Detail(), (3, 9))
    assert traces(tmp_path) == ["trace-0003-0009.json"]
    assert rank.warnings == []


def test_a_window_is_shortened_to_what_fits(tmp_path: Path) -> None:
    """The limit holds: what a step takes is measured in the warm-up step before the window."""
    whole = run_steps(tmp_path, Detail(), (3, 9))
    limit = whole.records[0]["bytes"] // 2
    (tmp_path / "limited").mkdir()
    rank = run_steps(tmp_path / "limited", Detail(max_bytes=limit), (3, 9))
    (record,) = rank.records
    assert record["first"] == 3 and 3 <= record["last"] < 9
    assert 0.5 * limit < record["bytes"] <= limit
    assert traces(tmp_path / "limited") == [f"trace-0003-{record['last']:04d}.json"]
    (warning,) = rank.warnings
    assert warning.startswith(f"window 3:9 shortened to 3:{record['last']}: a step takes ")


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_window_without_room_is_skipped(tmp_path: Path, limit: int) -> None:
    rank = run_steps(tmp_path, Detail(max_bytes=limit), (3, 4), (7, 8))
    assert traces(tmp_path) == []
    assert [text.split(":")[1][:9] for text in rank.warnings] == ["4 skipped", "8 skipped"]


def test_the_limit_is_of_all_windows_together(tmp_path: Path) -> None:
    first = run_steps(tmp_path, Detail(), (3, 4)).records[0]["bytes"]
    (tmp_path / "both").mkdir()
    rank = run_steps(tmp_path / "both", Detail(max_bytes=int(first * 1.6)), (3, 4), (7, 8))
    assert sum(record["bytes"] for record in rank.records) <= first * 1.6
    assert rank.records[0]["last"] == 4

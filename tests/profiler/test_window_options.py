"""What a window may record beside operators, and how much: --memory, --with-stack, --max-bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from perfkit.profiler.inrank import profilers, window
from perfkit.profiler.inrank.capture import Detail
from perfkit.profiler.inrank.window import Window
from tests.profiler.window_rank import WindowRank


def run_steps(folder: Path, detail: Detail, *windows: tuple[int, int]) -> WindowRank:
    """Make twelve equal steps with these windows."""
    rank = WindowRank(folder)
    ours = Window(rank, windows, detail)
    model = torch.nn.Linear(64, 64)
    for rank.step in range(13):
        ours.at_boundary()
        for _ in range(20):
            model(torch.ones(8, 64)).sum().backward()
    ours.finish(unfinished=False)
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


@pytest.mark.parametrize("detail", [Detail(), Detail(memory=True), Detail(max_bytes=10**9)])
def test_what_a_window_held_is_freed_as_it_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detail: Detail
) -> None:
    """Else it lives on in a cycle, until a collection of garbage in some later step."""
    made: list[Any] = []

    def make_and_keep(detail: Detail) -> tuple[Any, bool]:
        profile, any_thread = profilers.make_profile(detail)
        made.append(profile)
        return profile, any_thread

    monkeypatch.setattr(window, "make_profile", make_and_keep)
    run_steps(tmp_path, detail, (3, 4))
    assert [profile.profiler.kineto_results for profile in made] == [None] * len(made)
    assert len(made) == (2 if detail.max_bytes else 1)


def test_a_trace_without_torchs_own_objects_is_the_same_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older torch takes part in is left out of what is asked of it."""
    run_steps(tmp_path, Detail(), (3, 4))
    known = torch._C._profiler._ExperimentalConfig

    def older(**settings: Any) -> Any:
        if "trace_only" in settings:
            raise TypeError("incompatible constructor arguments")
        return known(**settings)

    monkeypatch.setattr(torch._C._profiler, "_ExperimentalConfig", older)
    (tmp_path / "older").mkdir()
    run_steps(tmp_path / "older", Detail(), (3, 4))
    (name,) = traces(tmp_path / "older")
    ours, theirs = (
        Counter((e["name"], e.get("cat"), *sorted(e.get("args", {}))) for e in events(folder, name))
        for folder in (tmp_path, tmp_path / "older")
    )
    assert ours == theirs and sum(ours.values()) > 500


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

"""`--analyze live`: when it is due, and that it runs beside the command and ends with it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from perfkit.profiler import pyspy, rank_folders
from perfkit.profiler.live import LiveVerdict, is_due
from tests.profiler.launching import until

TRACES = Path(__file__).parents[2] / "traces"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A real run of two ranks, copied."""
    shutil.copytree(TRACES / "ddp", tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "run"


def parent(run: Path) -> str:
    return rank_folders.find(run)[0].parent_node


def test_it_is_due_once_all_ranks_have_their_trace(run: Path) -> None:
    node = parent(run)
    assert is_due(rank_folders.find(run), node)
    assert not is_due(rank_folders.find(run), "another")
    first, second = rank_folders.find(run)
    assert not is_due([first], node)
    assert not is_due([], node)
    for trace in second.path.glob("trace-*"):
        trace.unlink()
    assert not is_due(rank_folders.find(run), node)
    facts = json.loads((second.path / "facts.json").read_bytes()) | {"traced": False}
    (second.path / "facts.json").write_text(json.dumps(facts))
    assert is_due(rank_folders.find(run), node)


def until_over(companion: LiveVerdict) -> None:
    until(lambda: companion._done)
    companion.stop()


def test_the_verdict_comes_to_stderr_at_low_priority(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    lower = os.setpriority

    def note(which: int, who: int, priority: int) -> None:
        asked.append((which, who, priority))
        lower(which, who, 0)  # at the priority asked for it may never run beside other tests

    monkeypatch.setattr(os, "setpriority", note)
    said: list[str] = []
    companion = LiveVerdict(run, parent(run), said.append)
    companion.start()
    until_over(companion)
    assert companion.warnings == []
    assert len(said) == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "3 steps analysed on 2 of 2 ranks" in shown.err
    assert [(which, priority) for which, _, priority in asked] == [(os.PRIO_PROCESS, 19)]
    assert (run / "analysis.json").is_file()


def test_an_analysis_that_fails_is_a_warning_and_is_not_repeated(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    node = parent(run)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    companion = LiveVerdict(run, node, lambda text: None)
    companion.start()
    until_over(companion)
    assert companion.warnings == ["the live analysis failed with status 1"]


def test_the_end_of_the_command_ends_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "UNBLOCK", "import time; time.sleep(60)")
    companion = LiveVerdict(run, parent(run), lambda text: None)
    companion.start()
    while companion._process is None:
        time.sleep(0.05)
    begun = time.monotonic()
    companion.stop()
    assert time.monotonic() - begun < 30  # not the minute that it would take
    assert companion._process.poll() is not None
    assert companion.warnings == []

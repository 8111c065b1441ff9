"""Measured ceilings: found beside a run or in the current folder, kept with the results."""

from pathlib import Path

import pytest

from perfkit.cli import results
from perfkit.roofline import ceilings
from tests.roofline import machines


def test_ceilings_of_the_current_folder_are_used_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_traces: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ceilings.json").write_bytes(ceilings.encode(machines.ceilings()))
    traces = [shared_traces / "own" / "gloo_ddp4"]
    first = results.produce(traces, tmp_path / "out")
    assert first.analysis.roofline is not None
    assert any(c.source.startswith("measured") for c in first.analysis.roofline.ceilings)
    (tmp_path / "ceilings.json").unlink()
    assert results.produce(traces, tmp_path / "out").analysis == first.analysis


def test_ceilings_of_another_device_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_traces: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    other = machines.ceilings(device_kind="cuda")
    (tmp_path / "ceilings.json").write_bytes(ceilings.encode(other))
    results.produce([shared_traces / "own" / "gloo_ddp4"], tmp_path / "out")
    assert not (tmp_path / "out" / "ceilings.json").exists()


def test_ceilings_that_cannot_be_read_cost_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shared_traces: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ceilings.json").write_text("{}")
    found = results.produce([shared_traces / "own" / "gloo_ddp4"], tmp_path / "out")
    assert found.analysis.roofline is not None and found.analysis.roofline.ceilings == ()
    assert "measured ceilings are left out" in capsys.readouterr().err

"""What happens to the run folder meanwhile must not change how the command ends."""

from __future__ import annotations

from pathlib import Path

from perfkit.profiler.launch import ProfileOptions, profile


def test_a_run_folder_deleted_meanwhile_leaves_the_exit_status(tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = profile(["sh", "-c", f"rm -r {run}; exit 3"], ProfileOptions(out=run))
    assert (outcome.status, outcome.signal) == (3, None)
    assert any("the end was not recorded" in warning for warning in outcome.warnings)
    assert not run.exists()

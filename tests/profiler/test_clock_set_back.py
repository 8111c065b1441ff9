"""The machine's clock is set back under a training: one trace is lost, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.trace.run import load_rank, open_run
from tests.profiler.launching import SCRIPTS, plain, profile, ranks

COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.real
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_a_clock_set_back_inside_a_window_costs_its_trace_only(tmp_path: Path) -> None:
    """An hour, in step 2, seen by all of the process: Python, torch and its profiler."""
    library = tmp_path / "clock.so"
    source = str(SCRIPTS / "clock.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    command = (sys.executable, str(SCRIPTS / "single.py"))
    preload = {"LD_PRELOAD": str(library)}
    ended = profile(tmp_path / "run", *command, "--back=2", env=preload, windows=[[2, 3], [6, 7]])
    bare = plain(*command)
    assert (ended.returncode, ended.stdout) == (bare.returncode, bare.stdout) == (0, bare.stdout)
    (rank,) = ranks(tmp_path / "run")
    lines = rank.records("step")
    assert rank.steps == list(range(8))
    assert all(line["t0"] < line["t1"] for line in lines)
    assert lines[2]["u1"] < lines[1]["u1"] < lines[2]["u1"] + 3600e9
    run = open_run([tmp_path / "run"])
    assert [issue.code for issue in run.ranks[0].issues] == ["CLOCK_SET"]
    assert "set back by 1 h 00 min in step 2: step times" in run.ranks[0].issues[0].message
    assert (run.ranks[0].lines.end_ns > run.ranks[0].lines.start_ns).all()
    analysis = analyze(run, lambda record: load_rank(record, cache=None))
    assert analysis.steps.analysed == 2
    assert "CLOCK_SET" in {issue.code for issue in analysis.quality.issues}

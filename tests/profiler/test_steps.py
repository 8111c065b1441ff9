"""What a step is: twenty iterations of any kind of loop are twenty steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.profiler.inrank.capture import Capture, Detail
from perfkit.profiler.launch import environment_of
from tests.profiler.launching import SCRIPTS, RankFolder, clean_environment, ranks
from tests.profiler.scripts.count_steps import CASES, ITERATIONS

pytestmark = pytest.mark.xdist_group("steps")  # one run answers all

BY_BATCH = {"hand_written"}
GRAPHS = str(SCRIPTS / "compiled_graphs.py")


def _run(script: str, run: Path | None) -> str:
    environment = clean_environment()
    if run is not None:
        run.mkdir()
        request = Capture(str(run), "id", "node", windows=(), detail=Detail(modules=True))
        environment = environment_of(environment, request)
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RankFolder]:
    """One rank folder a case; each case is a fork of one process that is no rank itself."""
    run = tmp_path_factory.mktemp("steps") / "run"
    _run(str(SCRIPTS / "count_steps.py"), run)
    return {folder.facts["argv"][0]: folder for folder in ranks(run)}


def test_only_the_forks_that_trained_are_ranks(cases: dict[str, RankFolder]) -> None:
    assert set(cases) == {case.__name__ for case in CASES}


@pytest.mark.parametrize("name", [case.__name__ for case in CASES])
def test_twenty_iterations_are_twenty_steps(cases: dict[str, RankFolder], name: str) -> None:
    rank = cases[name]
    assert rank.steps == list(range(ITERATIONS))
    if name.startswith("explicit"):
        assert rank.facts["step_source"] == "perfkit.step"
    by_batch = rank.facts["step_source"] == "dataloader"
    assert by_batch == (name in BY_BATCH)
    assert any("a step is a batch" in w for w in rank.facts.get("warnings", [])) == by_batch


def test_micro_batches_are_counted(cases: dict[str, RankFolder]) -> None:
    counted = {name: {s["mb"] for s in cases[name].records("step")[1:]} for name in cases}
    assert counted["accumulation"] == {4}
    assert counted["two_optimizers"] == {2}
    assert counted["plain"] == counted["hand_written"] == counted["compiled_iteration"] == {1}


def test_checkpoints_are_recorded_in_their_step(cases: dict[str, RankFolder]) -> None:
    steps = cases["checkpoints"].records("step")
    assert [step["i"] for step in steps if step["ck"]] == [3, 5, 7]
    assert all(step["ck"] < step["t1"] - step["t0"] for step in steps)


def test_compilations_are_recorded_in_their_step(cases: dict[str, RankFolder]) -> None:
    steps = cases["compiled_step"].records("step")
    assert len(steps[0]["co"]) >= 1
    assert not any("co" in step for step in steps[5:])
    for begun, took in steps[0]["co"]:
        assert steps[0]["t0"] <= begun < begun + took <= steps[0]["t1"]


def test_compiled_graphs_are_the_same_with_capture(tmp_path: Path) -> None:
    bare = _run(GRAPHS, None)
    assert _run(GRAPHS, tmp_path / "run") == bare
    graphs = json.loads(bare)
    del graphs["torch's own module"]  # torch 2.13 leaves it uncompiled, and so must we: see above
    assert sorted(graphs) == ["evaluation", "function", "model", "module", "step"]
    assert all(graphs.values())
    assert any("sqrt" in operator for operator in graphs["step"][0])
    assert os.listdir(tmp_path / "run") == ["attempt0"]

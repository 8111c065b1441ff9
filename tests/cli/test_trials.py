"""The laboratory with real trainings: what a crash, a hang and a healthy trial come back as."""

import sys
from pathlib import Path

import numpy as np
import pytest

from perfkit.cli.trials import Trials
from perfkit.cli.workdir import Place
from perfkit.recipes.activation import Choice
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.measured import Wanted
from perfkit.trace.run import open_run

SCRIPT = """
import os, time
import torch
asked = os.environ.get("PERFKIT_RECIPES", "")
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
samples = torch.utils.data.DataLoader(torch.randn(40_000, 8), batch_size=4)
for step, batch in enumerate(samples):
    if "gc-freeze" in asked and step == 5:
        raise RuntimeError("the recipe broke it")
    if "fused-optimizer" in asked and step == 5:
        time.sleep(600)
    model(batch).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    command = (sys.executable, "train.py")
    place = Place(home=tmp_path / "search")
    return Trials(command=command, place=place, environ={}, limit_s=120)


def test_trials_end_in_time_and_say_how(trials: Trials) -> None:
    first, second = (trials.run(Wanted(name=f"baseline-{n}")) for n in (1, 2))
    assert first.ok and first.steps_made == 40 and first.step_ms is not None
    assert not first.refused
    assert np.array_equal(first.numbers[0].losses, second.numbers[0].losses)  # seeded
    assert np.array_equal(first.numbers[0].parameters, second.numbers[0].parameters)
    assert len(first.numbers[0].losses) == 40
    (rank,) = open_run([trials.home / "baseline-1"]).ranks
    loader = rank.facts["loader"]  # although it became a rank later
    assert isinstance(loader, dict) and loader["num_workers"] == 0
    crashed = trials.run(Wanted(name="crash", stack=(Choice(recipe=BY_ID["gc-freeze"]),)))
    assert not crashed.ok
    assert "RuntimeError: the recipe broke it" in crashed.reason
    trials.limit_s = 5
    hung = trials.run(Wanted(name="hang", stack=(Choice(recipe=BY_ID["fused-optimizer"]),)))
    assert not hung.ok
    assert "longer than 5 s" in hung.reason

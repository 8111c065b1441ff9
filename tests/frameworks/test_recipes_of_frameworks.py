"""Recipes on scripts that a framework trains: its own setting is named, nothing is patched."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from perfkit.recipes.activation import activate, parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.frameworks import SETTINGS
from tests.profiler.launching import TORCHRUN, clean_environment, profile, ranks

pytestmark = [pytest.mark.real, pytest.mark.frameworks]

SCRIPTS = Path(__file__).parent / "scripts"
BIN = Path(sys.executable).parent
AMP = "amp-bf16"

CASES = (
    ("accelerate", (sys.executable, "accelerated.py"), (AMP, "gradient-accumulation", "compile")),
    (
        "transformers",
        (*TORCHRUN, "--standalone", "hf_trainer.py", "OUT"),
        (AMP, "ddp-buckets", "loader", "tf32"),
    ),
    ("lightning", (sys.executable, "lit.py"), (AMP, "ddp-buckets", "bf16-gradients")),
    ("deepspeed", ("deepspeed", "--num_accelerators=2", "zero.py"), (AMP,)),
)


@pytest.mark.parametrize(("framework", "command", "recipes"), CASES)
def test_a_framework_is_asked_to_do_it_itself(
    tmp_path: Path, framework: str, command: tuple[str, ...], recipes: tuple[str, ...]
) -> None:
    if find_spec(framework) is None:
        pytest.skip("a training framework is not installed (make test-frameworks)")
    words = [str(SCRIPTS / word) if word.endswith(".py") else word for word in command]
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    environ = {"PATH": f"{BIN}:{clean_environment()['PATH']}", "DS_ACCELERATOR": "cpu"}
    asked = activate(parse(",".join(recipes), BY_ID), {}).environment
    done = profile(tmp_path / "run", *words, env={**environ, **asked})
    assert done.returncode == 0, done.stderr
    found = ranks(tmp_path / "run")
    assert found
    for rank in found:
        reasons = {r["recipe"]: r["reason"] for r in rank.records("refused", "recipes.jsonl")}
        assert set(reasons) == set(recipes)
        for recipe, reason in reasons.items():
            assert SETTINGS[framework][recipe] in reason
        assert not rank.records("applied", "recipes.jsonl")
        seen = {r["what"]: r["value"] for r in rank.records("seen", "recipes.jsonl")}
        assert seen["framework"] == framework


def test_a_loader_that_accelerate_makes_again_is_no_choice_of_the_scripts(tmp_path: Path) -> None:
    if find_spec("accelerate") is None:
        pytest.skip("a training framework is not installed (make test-frameworks)")
    asked = activate(parse("loader:workers=1", BY_ID), {}).environment
    script = str(SCRIPTS / "accelerated.py")
    done = profile(tmp_path / "run", sys.executable, script, env=dict(asked))
    assert done.returncode == 0, done.stderr
    (rank,) = ranks(tmp_path / "run")
    assert not rank.records("refused", "recipes.jsonl")
    assert [r["new"] for r in rank.records("applied", "recipes.jsonl")] == [1]

"""`perfkit optimize` with trials that are made up: what it prints, keeps, refuses and takes up."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from perfkit.analyzers.calibration import Pair, decode, encode
from perfkit.analyzers.refusal import Refusal
from perfkit.cli import optimizing, trials
from perfkit.cli.trials import Trials
from perfkit.cli.workdir import OFFLINE, Place
from perfkit.errors import UsageError
from perfkit.profiler.experiment import Experiment
from perfkit.recipes.activation import Choice
from perfkit.recipes.measured import Measured, Wanted
from perfkit.recipes.recipe import Recipe
from perfkit.recipes.search import Diagnosis
from perfkit.trace.runner import Ended, Trial
from tests.cli.conftest import Call
from tests.recipes.laboratory import FakeLaboratory, recipe


@dataclass
class World:
    """The recipes that there are, and the laboratory that stands for the machine."""

    recipes: tuple[Recipe, ...]
    laboratory: FakeLaboratory


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    laboratory = FakeLaboratory(lambda on: 100 * (0.6 if "good" in on else 1), noise=0.003)
    known = (recipe("good", 1.5), recipe("idle", 1.3))
    monkeypatch.setattr(optimizing, "RECIPES", known)
    monkeypatch.setattr(optimizing, "BY_ID", {r.id: r for r in known})
    monkeypatch.setattr(Trials, "run", lambda self, wanted: laboratory.run(wanted))
    monkeypatch.setattr(
        Trials, "diagnose", lambda self, name, stack: laboratory.diagnose(name, stack)
    )
    monkeypatch.setattr(optimizing, "source_changes", lambda stack, home, found: ())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield World(known, laboratory)


def test_says_what_it_tries_and_what_it_kept(perfkit: Call, world: World, tmp_path: Path) -> None:
    ended = perfkit("optimize", "--out", "search", "--", "python", "train.py")
    assert ended.status == 0
    lines = ended.err.splitlines()
    assert "WANDB_MODE=offline" in lines[0]
    tried = next(i for i, x in enumerate(lines) if "trying good: 1.50x predicted" in x)
    kept = next(i for i, x in enumerate(lines) if x.startswith("perfkit: good kept: 1.6"))
    assert tried < kept  # the prediction is on record before the measurement
    assert any(x.startswith("perfkit: idle reverted") for x in lines)
    assert "Next: perfkit profile --recipe good -- python train.py" in lines
    assert "confirmed on fresh runs" in ended.out
    assert "good" in (tmp_path / "search/optimize.html").read_text()


def test_json_is_the_ledger(perfkit: Call, world: World, tmp_path: Path) -> None:
    ended = perfkit("optimize", "--json", "--out", "search", "--", "python", "train.py")
    found = json.loads(ended.out)
    assert found == json.loads((tmp_path / "search/optimize.json").read_bytes())
    assert found["stack"] == ["good"]
    assert {a["recipe"]: a["decision"] for a in found["attempts"]} == {
        "good": "kept",
        "idle": "reverted",
    }


def test_predictions_and_measurements_are_remembered_once(
    perfkit: Call, world: World, tmp_path: Path
) -> None:
    line = ("optimize", "--out", "search", "--", "python", "train.py")
    perfkit(*line)
    file = tmp_path / "state/perfkit/recipes.jsonl"
    pairs = decode(file.read_bytes())
    good = next(p for p in pairs if p.options == ("good",))
    assert good.before_ms / good.predicted_ms == pytest.approx(1.5)
    assert good.before_ms / good.measured_ms == pytest.approx(1 / 0.6, rel=0.02)
    perfkit(*line)
    assert decode(file.read_bytes()) == pairs


def test_a_calibration_that_cannot_be_read_is_named(perfkit: Call, world: World) -> None:
    file = optimizing.default_calibration()
    file.parent.mkdir(parents=True)
    file.write_text("no JSON\n")
    ended = perfkit("optimize", "--out", "search", "--", "python", "train.py")
    assert (ended.status, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "recipes.jsonl: not a calibration file" in ended.err
    assert "move it away; it is made anew" in ended.err


def test_a_resumed_search_predicts_from_what_it_began_with(world: World, tmp_path: Path) -> None:
    pair = Pair(options=("good",), before_ms=1.0, predicted_ms=0.5, measured_ms=0.4)
    file = optimizing.default_calibration()
    file.parent.mkdir(parents=True)
    file.write_bytes(encode(pair))
    assert optimizing.past(tmp_path / "search") == (pair,)
    file.write_bytes(encode(pair) * 3)
    assert optimizing.past(tmp_path / "search") == (pair,)


def test_interrupted_it_says_how_to_go_on(perfkit: Call, world: World) -> None:
    world.laboratory.interrupt_after = 9
    ended = perfkit("optimize", "--out", "search", "--", "python", "train.py")
    assert ended.status == 130
    assert "perfkit: so far 0 recipes were tried; nothing was kept\n" in ended.err
    assert "Next: the same line with --out search goes on from here" in ended.err
    assert json.loads(Path("search/optimize.json").read_bytes())["complete"] is False
    world.laboratory.interrupt_after = None
    ended = perfkit("optimize", "--out", "search", "--", "python", "train.py")
    assert ended.status == 0
    assert "perfkit: going on in search" in ended.err
    assert json.loads(Path("search/optimize.json").read_bytes())["complete"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "there is no command to optimize"),
        (("--recipe", "nope", "--", "x"), "--recipe nope: there is no such recipe"),
        (("--budget", "soon", "--", "x"), "--budget soon: not understood"),
        (("--allow", "everything", "--", "x"), "'everything'"),
    ],
)
def test_wrong_usage(perfkit: Call, world: World, arguments: Sequence[str], says: str) -> None:
    ended = perfkit("optimize", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_a_command_that_there_is_not_leaves_nothing_behind(perfkit: Call, world: World) -> None:
    ended = perfkit("optimize", "--", "no-such-command")
    assert (ended.status, ended.out, ended.err.count("\n")) == (127, "", 1)
    assert "command not found: no-such-command" in ended.err
    assert not Path("perfkit-runs").exists()


def test_a_training_that_fails_is_bad_input(
    perfkit: Call, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diagnose(self: Trials, name: str, stack: Sequence[Choice]) -> Diagnosis | Refusal:
        return Refusal(reason="the training failed: it ended with status 1")

    monkeypatch.setattr(Trials, "diagnose", diagnose)
    ended = perfkit("optimize", "--out", "search", "--", "false")
    assert (ended.status, ended.out) == (3, "")
    assert "the training failed: it ended with status 1" in ended.err


class Writing(Experiment):
    """An experiment whose trials touch files of the working directory instead of training."""

    touched = ""

    def _run_one(self, trial: Trial, key: str) -> Ended:
        Path(self.touched).write_text(trial.name)
        return Ended(trial=trial, run=self.folder / trial.name, ok=True, seconds=1.0)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trials:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "Experiment", Writing)
    (tmp_path / "mine.txt").write_text("precious")
    return Trials(command=("true",), place=Place(home=tmp_path / "search"), environ={})


def test_a_run_that_changes_files_of_the_user_is_refused(
    real: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writing, "touched", "mine.txt")
    with pytest.raises(UsageError, match=r"changes files that were here before: mine\.txt"):
        real.diagnose("diagnosis-0", ())
    again = Trials(command=("true",), place=Place(home=real.home), environ={})
    with pytest.raises(UsageError, match=r"mine\.txt"):  # the file is as the last trial left it
        again.diagnose("diagnosis-0", ())


@pytest.mark.parametrize("name", ["mine.txt", "new.txt"])
def test_writes_go_on_where_they_are_allowed_or_new(
    real: Trials, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Writing, "touched", name)
    allowed = replace(real, place=Place(home=real.home, allow_writes=name == "mine.txt"))
    found = allowed.diagnose("diagnosis-0", ())
    assert isinstance(found, Refusal)  # nothing was recorded, but nobody objected to the files


def test_a_slower_baseline_gives_later_trials_more_time(
    real: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter([15.0, 40.0, 10.0])
    kept: list[bool] = []

    def run_one(self: Writing, trial: Trial, key: str) -> Ended:
        kept.append(self._retries)
        return Ended(trial=trial, run=self.folder / trial.name, ok=True, seconds=next(took))

    monkeypatch.setattr(Writing, "_run_one", run_one)
    real.diagnose("diagnosis-0", ())
    assert real.limit_s == 80  # 75 s, in whole tens
    real.run(Wanted(name="baseline-1"))
    assert real.limit_s == 200
    real.run(Wanted(name="try-1", stack=(Choice(recipe=recipe("one", 1.5)),)))
    assert real.limit_s == 200
    assert kept == [True, True, False]  # a recipe that failed is not run again by a later call


def test_trials_are_seeded_and_offline(real: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Trial] = []
    monkeypatch.setattr(Writing, "touched", "new.txt")
    original = Writing._run_one

    def noting(self: Writing, trial: Trial, key: str) -> Ended:
        seen.append(trial)
        return original(self, trial, key)

    monkeypatch.setattr(Writing, "_run_one", noting)
    measured: Measured = real.run(Wanted(name="baseline-1"))
    assert not measured.ok  # no rank recorded anything
    (trial,) = seen
    assert trial.environment["PERFKIT_NUMERICS"] == str(trials.SEED)
    assert OFFLINE.items() <= trial.environment.items()


def test_an_interrupted_trial_leaves_no_copy(real: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_one(self: Writing, trial: Trial, key: str) -> Ended:
        assert Path(trial.command[3]).is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(Writing, "_run_one", run_one)
    copying = replace(real, place=Place(home=real.home, copy=True))
    with pytest.raises(KeyboardInterrupt):
        copying.run(Wanted(name="baseline-1"))
    assert not (real.home / "copies" / "baseline-1").exists()


def test_each_trial_has_its_own_copy(real: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Trial] = []
    held: list[list[str]] = []

    def run_one(self: Writing, trial: Trial, key: str) -> Ended:
        seen.append(trial)
        place = Path(trial.command[3])
        held.append(sorted(p.name for p in place.iterdir()))
        (place / "mine.txt").write_text("changed")
        return Ended(trial=trial, run=self.folder / trial.name, ok=True, seconds=1.0)

    monkeypatch.setattr(Writing, "_run_one", run_one)
    copying = replace(real, place=Place(home=real.home, copy=True))
    for name in ("baseline-1", "baseline-2"):
        copying.run(Wanted(name=name))
    assert held == [["mine.txt"], ["mine.txt"]]
    assert Path("mine.txt").read_text() == "precious"
    assert seen[0].command[-1] == "true"
    assert not (real.home / "copies" / "baseline-1").exists()

"""What a trial says: which steps are timed, which numbers were written, what a recipe did."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfkit.recipes.activation import Choice
from perfkit.recipes.measured import Wanted, backlog, measure, step_time
from perfkit.recipes.recipe import Parameter, Recipe
from perfkit.trace.model import Run, StepLines
from perfkit.trace.numerics import read_numbers
from tests.builders import rank_record, step_lines
from tests.recipes.laboratory import recipe


def run_with(*ranks: StepLines, folder: Path = Path("nowhere")) -> Run:
    records = (
        replace(rank_record(rank, len(ranks), lines=lines), folder=folder / f"rank{rank}")
        for rank, lines in enumerate(ranks)
    )
    return Run(run_id="trial", path=None, ranks=tuple(records))


def test_the_slowest_rank_counts_after_the_warm_up() -> None:
    fast, slow = [10.0] * 40, [500.0] * 10 + [20.0] * 30
    found, made = step_time(run_with(step_lines(fast), step_lines(slow)), 10)
    assert found == pytest.approx(20.0)
    assert made == 40


def test_steps_with_our_numbers_evaluations_and_profilers_are_left_out() -> None:
    times = [10.0] * 40
    for step in (20, 30, 25, 26):
        times[step] = 99.0
    kept = [t for step, t in enumerate(times) if step >= 10 and step % 10 and step not in (25, 26)]
    assert set(kept) == {10.0}
    lines = step_lines(times, eval_steps=(25,), profiled=(26,))
    assert step_time(run_with(lines), 10)[0] == pytest.approx(10.0)
    slow = [10.0 if t == 10.0 else 99.0 for t in times]
    slow[11:20] = [50.0] * 9  # so that the median would move, were any of them in
    found = step_time(run_with(step_lines(slow, eval_steps=(25,), profiled=(26,))), 20)
    assert found[0] == pytest.approx(10.0)


def test_timing_begins_five_steps_after_the_last_compilation() -> None:
    times = [10.0] * 14 + [800.0] + [30.0] * 5 + [10.0] * 20
    lines = step_lines(times, compiled=[(14, 0.0, 700.0)])
    assert step_time(run_with(lines), 10)[0] == pytest.approx(10.0)
    late = step_lines([10.0] * 40, compiled=[(35, 0.0, 700.0)])
    assert step_time(run_with(late), 10)[0] is None


def test_too_few_steps_are_no_measurement() -> None:
    assert step_time(run_with(step_lines([10.0] * 17)), 10) == (None, 17)
    assert step_time(run_with(step_lines([])), 10) == (None, 0)


def loader(**defaults: int) -> Recipe:
    parameters = tuple(Parameter(name=k, default=v, help="") for k, v in defaults.items())
    return replace(recipe("loader", 2.0), parameters=parameters)


def test_what_workers_have_ready_is_discarded() -> None:
    assert backlog(()) == 0
    assert backlog((Choice(recipe=recipe("other", 1.5)),)) == 0
    assert backlog((Choice(recipe=loader(workers=3)),)) == 6  # torch prefetches two each
    chosen = Choice(recipe=loader(workers=3, prefetch=4), given={"workers": 2})
    assert backlog((chosen,)) == 8


def write(folder: Path, name: str, lines: Sequence[object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_numbers_are_read_back(tmp_path: Path) -> None:
    lines = [
        {"k": "loss", "i": 0, "v": 2.0},
        {"k": "loss", "i": 0, "v": 4.0},
        {"k": "gradient", "i": 0, "norm": 1.5, "sample": [0.5, None]},
        {"k": "loss", "i": 2, "v": None},
        {"k": "gradient", "i": 10, "norm": None},
        {"k": "end", "sample": [1.0, 2.0], "peak_bytes": 1024},
    ]
    write(tmp_path / "rank0", "numerics.jsonl", lines)
    with (tmp_path / "rank0/numerics.jsonl").open("a") as stream:
        stream.write('{"k":"loss","i":3,"v":1')  # torn
    (found,) = read_numbers(run_with(step_lines([1.0]), step_lines([1.0]), folder=tmp_path))
    assert found.rank == 0
    np.testing.assert_equal(found.losses, [3.0, np.nan, np.nan])
    np.testing.assert_equal(found.norms, {0: 1.5, 10: np.nan})
    np.testing.assert_equal(found.gradient, [0.5, np.nan])
    np.testing.assert_equal(found.parameters, [1.0, 2.0])
    assert found.peak_bytes == 1024


def test_a_recipe_that_refused_or_did_nothing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "rank0", "recipes.jsonl", [
        {"k": "refused", "recipe": "own", "reason": "the script has its own hook"},
        {"k": "applied", "recipe": "works", "setting": "x", "old": 1, "new": 2, "step": 3},
    ])  # fmt: skip
    stack = tuple(Choice(recipe=recipe(name, 1.5)) for name in ("own", "works", "silent"))
    run = run_with(step_lines([10.0] * 40), folder=tmp_path)
    found = measure(Wanted(name="trial", stack=stack), run, 12.0)
    assert found.refused == {
        "own": "the script has its own hook",
        "silent": "it found nothing in the script to act on",
    }

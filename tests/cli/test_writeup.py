"""`perfkit writeup`: files, refusals, and communication that is really off."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perfkit.cli import writeup_arms
from perfkit.cli.writeup_measure import Plan, added_up, write_down
from perfkit.report.writeup.evidence import Guess
from tests.cli.conftest import Call
from tests.cli.test_scale import make_run

BOOT = Path(__file__).parent.parent.parent / "profiler" / "inrank" / "boot"
SYNC = """
import torch, torch.distributed as dist
dist.init_process_group("gloo", rank=0, world_size=1, init_method="file://{store}")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
calls = []
model.register_comm_hook(None, lambda state, bucket: (calls.append(1), dist.all_reduce(
    bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0]))[1])
model(torch.ones(1, 2)).sum().backward()
print(len(calls))
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lab04"], "no run to write about"),
        (["lab04", "--measure"], "--measure and a command after -- belong together"),
        (["lab04", "x", "--", "true"], "--measure and a command after -- belong together"),
        (["lab04", "x", "--out", "a.pdf"], "neither .md nor .html"),
        (["lab05", "x"], "'lab': 'lab05' is not one of"),
        (["lab04", "x", "--out", "a.html", "--figures", "png"], "a .html holds its figures"),
    ],
)
def test_wrong_usage_is_one_line(perfkit: Call, arguments: list[str], says: str) -> None:
    ended = perfkit("writeup", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err


def test_a_missing_run_is_one_line(perfkit: Call, tmp_path: Path) -> None:
    ended = perfkit("writeup", "lab04", tmp_path / "none")
    assert (ended.status, ended.err.count("\n")) == (3, 1)
    assert "there is no such folder" in ended.err


def test_a_report_and_its_figures_are_written(perfkit: Call, tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", 2, 100.0, 8)
    amp = make_run(tmp_path / "amp", 2, 80.0, 8)
    out = tmp_path / "lab04.md"
    ended = perfkit("writeup", "lab04", base, f"amp={amp}", "--out", out)
    assert ended.status == 0, ended.err
    text = out.read_text()
    assert "| + AMP | 200 samples/s | 1.25x (one run each: no interval) |" in text
    assert (tmp_path / "lab04-figures" / "throughput.svg").is_file()
    assert "Missing: rows of the table: + Grad Accum, + DataLoader, + All" in ended.out
    page = perfkit("writeup", "lab09", base, f"trap={amp}", "--out", tmp_path / "lab09.html")
    assert page.status == 0, page.err
    assert "The trap, beside the change that mattered" in (tmp_path / "lab09.html").read_text()
    assert (tmp_path / "lab09-ledger.json").is_file()


def told_roles(*words: str | Path) -> list[str]:
    return [one.role for one in writeup_arms.load([str(word) for word in words])]


def test_runs_of_one_name_are_variants_of_their_own(tmp_path: Path) -> None:
    made = [make_run(tmp_path / name, 2, 100.0, 8) for name in ("a/base", "b/run", "c/run")]
    assert told_roles(*made) == ["base", "run", "c/run"]
    assert told_roles(made[1], made[0], made[2]) == ["base", "a/base", "run"]
    assert told_roles(made[0], f"x={made[1]}", f"x={made[2]}") == ["base", "x", "x"]


def test_runs_of_a_measurement_keep_their_roles_and_options(tmp_path: Path) -> None:
    """Whatever order the shell gives them in."""
    names = ("amp-run1", "base-run1", "base-run2")
    made = [make_run(tmp_path / name, 2, 100.0, 8) for name in names]
    assert told_roles(*made) == ["amp", "base", "base"]
    loaded = writeup_arms.load([str(folder) for folder in made])
    (node,) = loaded[1].run.nodes
    facts = {**node.facts, "windows": [[6, 15]]}
    run = replace(loaded[1].run, nodes=(replace(node, facts=facts),))
    base = replace(loaded[1], run=run)
    assert writeup_arms.options_of(base, loaded) == "--repeats 2 --window 6:15"
    elsewhere = replace(base, folder=tmp_path / "base")
    assert writeup_arms.options_of(elsewhere, loaded) == ""


def test_runs_of_something_else_are_refused_with_a_remedy_that_helps(
    perfkit: Call, tmp_path: Path
) -> None:
    """Such as those of a version whose recipes set other variables."""
    runs = tmp_path / "lab04-runs"
    runs.mkdir()
    entry = {"k": "run", "name": "base-run1", "key": "x", "ok": True, "reason": "", "seconds": 1}
    (runs / "ledger.jsonl").write_text(json.dumps(entry) + "\n")
    ended = perfkit("writeup", "lab04", "--measure", "--out", tmp_path / "lab04.md", "--", "true")
    assert (ended.status, ended.out, ended.err.count("\n")) == (125, "", 1)
    assert f"{runs} holds base-run1 of another command" in ended.err
    assert f"move {runs} away" in ended.err
    assert f"--out {tmp_path / 'lab04-2.md'}" in ended.err
    assert "--out DIR" not in ended.err


def test_figures_can_be_pictures(perfkit: Call, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    base = make_run(tmp_path / "base", 2, 100.0, 8)
    amp = make_run(tmp_path / "amp", 2, 80.0, 8)
    ended = perfkit(
        "writeup", "lab04", base, f"amp={amp}", "--figures", "png", "--out", tmp_path / "a.md"
    )
    assert ended.status == 0, ended.err
    assert "(a-figures/throughput.png)" in (tmp_path / "a.md").read_text()
    picture = (tmp_path / "a-figures" / "throughput.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert not list((tmp_path / "a-figures").glob("*.svg"))


def test_what_is_predicted_of_all_is_the_sum_of_what_each_saves() -> None:
    def guess(speed_up: float | None, low: float | None = None, high: float | None = None) -> Guess:
        return Guess(speed_up=speed_up, low=low, high=high, why="w")

    found = added_up([guess(1.25, 1.1, 1.3), guess(1.25)])  # each saves a fifth of the step
    assert found is not None
    assert found.speed_up == pytest.approx(1 / 0.6)
    assert found.low == 1.25  # the best of them alone
    assert found.high == pytest.approx(1 / (1 - (1 - 1 / 1.3) - 0.2))
    assert added_up([guess(1.25), guess(None)]) is None
    assert added_up([guess(2.0), guess(2.0)]) is None  # nothing would be left


def test_the_first_predictions_stay_and_new_roles_are_added(tmp_path: Path) -> None:
    file = tmp_path / "predictions.json"
    first = Plan(guesses={"fix": Guess(speed_up=1.5, low=1.2, high=1.8, why="first")})
    write_down(file, first)
    later = Plan(
        guesses={
            "fix": Guess(speed_up=9.0, low=None, high=None, why="wise after the event"),
            "trap": Guess(speed_up=1.0, low=0.9, high=1.1, why="added"),
        }
    )
    write_down(file, later)
    assert {role: g.why for role, g in later.guesses.items()} == {"fix": "first", "trap": "added"}
    assert writeup_arms.read_guesses(file) == later.guesses


@pytest.mark.parametrize(("wanted", "calls"), [("1", "0"), ("", "1")])
def test_communication_off_is_off(tmp_path: Path, wanted: str, calls: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(BOOT), "PERFKIT_NO_SYNC": wanted}
    environment["PERFKIT_RUN_DIR"] = str(tmp_path)  # what makes a process look for hooks
    done = subprocess.run(
        [sys.executable, "-c", SYNC.format(store=tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env=environment,
    )
    assert done.stdout.strip() == calls, done.stderr

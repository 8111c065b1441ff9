"""`perfkit scale`: how sweeps are planned, what is refused in one line, what is written."""

import json
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from perfkit.cli.sweep import bandwidth, batch_of, counts, limits, plan, seconds
from perfkit.errors import UsageError
from perfkit.recipes.ledger import Diagnosed
from tests.cli.conftest import Call
from tests.recipes.laboratory import empty_book

DIAGNOSED = Diagnosed(
    stack=(), trial="r2", label="compute", dominant="compute", step_ms=1.0, findings=()
)
COMMAND = ["train.py", "--ranks", "{ranks}", "--batch={batch}"]


def test_strong_scaling_divides_the_batch_and_weak_keeps_it() -> None:
    strong = plan(COMMAND, "1,2", "strong", 8, 1)
    assert [t.command for t in strong] == [
        ("train.py", "--ranks", "1", "--batch=8"),
        ("train.py", "--ranks", "2", "--batch=4"),
    ]
    assert plan(COMMAND, "2", "weak", 8, 1)[0].command[-1] == "--batch=8"
    assert [t.name for t in plan(COMMAND, "4,1", "strong", 8, 2)] == [
        "ranks1-run1",
        "ranks4-run1",
        "ranks4-run2",
        "ranks1-run2",
    ]


def test_other_braces_in_the_command_are_the_users() -> None:
    words = ["train.py", "{ranks}", '{"lr": {batch}}', "${HOME}"]
    assert plan(words, "2", "weak", 8, 1)[0].command == ("train.py", "2", '{"lr": 8}', "${HOME}")


def test_quantities_have_units() -> None:
    assert bandwidth("50GB/s") == 50e9
    assert bandwidth("200mbit") == 25e6
    assert seconds("5us", "--alpha") == pytest.approx(5e-6)
    assert seconds("10m", "--time-limit") == 600
    assert counts("4,1,2,2", "--ranks") == (1, 2, 4)
    assert batch_of(64, 4, "strong") == 16


@pytest.mark.parametrize("text", ["50", "GB/s", "0GB/s", "-1GB/s", "5 parsecs"])
def test_a_quantity_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="for example --network 50GB/s"):
        bandwidth(text)


def test_limits_leave_steps_to_be_timed() -> None:
    assert limits(40, "10:19", "10m").windows == ((10, 19),)
    with pytest.raises(UsageError, match="ends a run before step 19"):
        limits(20, "10:19", "10m")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a sweep needs --ranks, --mode and a command"),
        (
            ["--ranks=1,3", "--mode=strong", "--batch=64", "--", *COMMAND],
            "64 is not divisible by 3",
        ),
        (["--ranks=1,2", "--mode=strong", "--batch=64", "--", "x", "{ranks}"], "belong together"),
        (["--ranks=1,2", "--mode=strong", "--", "x", "{ranks}"], "belong together"),
        (["--ranks=1,2", "--mode=weak", "--", "x"], "has no {ranks}"),
        (["--ranks=1,x", "--mode=weak", "--", "x", "{ranks}"], "not a list of numbers"),
        (["--from", "A", "--ranks=1"], "--from judges runs that exist"),
        (["--from", "A", "--alpha=5us"], "--alpha belongs to --network"),
        (["--from", "A", "--samples=1", "--tokens=1"], "not both"),
    ],
)
def test_wrong_usage_is_one_line(perfkit: Call, arguments: list[str], says: str) -> None:
    ended = perfkit("scale", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err and ended.err.count("\n") == 1


def lines(steps: int, ms: float, samples: int | None) -> str:
    """Return a steps.jsonl of steps of equal length."""
    found = ['{"k":"header","schema_version":1}']
    for k in range(steps):
        begin, end = int(k * ms * 1e6), int((k + 1) * ms * 1e6)
        line = {"k": "step", "i": k, "t0": begin, "t1": end, "u1": 1_700_000_000_000_000_000 + end}
        line |= {"in": 0, "ck": 0, "mb": 1, "ev": 0, "pr": 0}
        found.append(json.dumps(line | ({} if samples is None else {"n": samples})))
    return "\n".join([*found, '{"k":"end","how":"exit","status":0,"t":1,"u":1}', ""])


def make_run(folder: Path, ranks: int, ms: float, samples: int | None) -> str:
    """Write a run folder without traces."""
    for rank in range(ranks):
        own = folder / "attempt0" / f"rank{rank:05d}.n.{rank + 1}"
        own.mkdir(parents=True)
        facts = {"schema_version": 1, "rank": rank, "world_size": ranks, "device_kind": "cpu"}
        facts |= {"clock_domain": "b", "cpus_available": 64, "node": "n", "parent_node": "n"}
        (own / "facts.json").write_text(json.dumps(facts))
        (own / "steps.jsonl").write_text(lines(30, ms, samples))
    (folder / "nodes" / "n").mkdir(parents=True)
    node = {"schema_version": 1, "run_id": folder.name, "started_unix_ns": 1, "ended_unix_ns": 2}
    (folder / "nodes" / "n" / "run.json").write_text(json.dumps(node | {"exit_status": 0}))
    return str(folder)


def test_runs_made_elsewhere_are_joined(perfkit: Call, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{p}", p, 100.0 / p + 5, 64 // p) for p in (1, 2, 4)]
    out = tmp_path / "out"
    ended = perfkit("scale", "--from", *runs, "--out", out, "--json")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    assert (found["mode"], [p["ranks"] for p in found["points"]]) == ("strong", [1, 2, 4])
    assert found["points"][2]["efficiency"] == pytest.approx(105 / 30 / 4, rel=1e-6)
    assert json.loads((out / "scale.json").read_text()) == found
    assert "Strong scaling" in (out / "scale.html").read_text()
    text = perfkit("scale", "--from", *runs, "--out", out).out
    assert "3.50x" in text and "no run has a trace of transfers" in text
    assert "cannot tell why, the runs have no trace" in text


def test_runs_that_are_no_series_are_refused_in_one_line(perfkit: Call, tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "a", 1, 100, 64), make_run(tmp_path / "b", 2, 90, 48)
    silent = make_run(tmp_path / "c", 2, 50, None)
    for runs, says in (
        ([one, two], "neither strong nor weak"),
        ([one, silent], "samples per step were not recorded"),
        ([one], "all runs have 1 rank"),
        ([one, str(tmp_path / "nothing")], "nothing"),
    ):
        ended = perfkit("scale", "--from", *runs, "--out", tmp_path / "out")
        assert (ended.status, ended.out) == (3, "")
        assert says in ended.err and ended.err.count("\n") == 1
    twice = perfkit("scale", "--from", one, one)
    assert twice.status == 2 and "named twice" in twice.err


def test_a_sweep_of_which_every_run_fails_says_why(perfkit: Call, tmp_path: Path) -> None:
    code = "import sys; raise SystemExit('Error: no {ranks} of these')"
    sweep = ["--ranks=1,2", "--mode=weak", "--repeats=1", "--out", tmp_path / "out"]
    ended = perfkit("scale", *sweep, "--", sys.executable, "-c", code)
    assert ended.status == 3
    assert "ranks2-run1 failed: it ended with status 1: Error: no 2 of these" in ended.err
    assert "every run of the sweep failed" in ended.err


def test_an_interrupted_sweep_goes_on_where_it_was(perfkit_process: Call, tmp_path: Path) -> None:
    code = "import os, signal, sys\nopen('ran', 'a').write(sys.argv[1])\n"
    code += (
        "if sys.argv[1] == '2' and not os.path.exists('go'): os.kill(os.getppid(), signal.SIGINT)"
    )
    sweep = ["--ranks=1,2", "--mode=weak", "--repeats=1", "--out", tmp_path / "out"]
    line = ["scale", *sweep, "--", sys.executable, "-c", code, "{ranks}"]
    ended = perfkit_process(*line)
    assert ended.status == 130
    assert "goes on from here" in ended.err and "interrupted" in ended.err
    (tmp_path / "go").touch()
    again = perfkit_process(*line)
    assert "1 of 2 runs were finished before" in again.err
    assert (tmp_path / "ran").read_text() == "122"


OVERWRITES = """
import os, pathlib
pathlib.Path('mine.txt').write_text(os.environ['WANDB_MODE'])
pathlib.Path('{ranks}.new').touch()
"""


def test_a_sweep_whose_first_run_changes_files_of_the_user_ends_there(
    perfkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("precious")
    sweep = ["scale", "--ranks=1,2", "--mode=weak", "--repeats=1"]
    run = ["--", sys.executable, "-c", OVERWRITES]
    ended = perfkit(*sweep, "--out", "first", "--workdir", "copy", *run)
    assert ended.status == 3  # nothing was trained, but both ran
    assert Path("mine.txt").read_text() == "precious" and not Path("2.new").exists()
    ended = perfkit(*sweep, "--out", "second", *run)
    assert (ended.status, ended.out) == (2, "")
    assert "WANDB_MODE=offline" in ended.err
    assert "a run makes in this folder: 1.new" in ended.err
    assert "a run changes files that were here before: mine.txt" in ended.err
    assert Path("mine.txt").read_text() == "offline" and not Path("2.new").exists()
    perfkit(*sweep, "--out", "third", "--allow-writes", *run)
    assert Path("2.new").exists()


def test_the_report_of_a_run_holds_the_series_that_it_belongs_to(
    perfkit: Call, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / f"r{p}", p, 100.0 / p + 5, 64 // p) for p in (1, 2)]
    assert perfkit("scale", "--from", *runs, "--out", tmp_path).status == 0
    assert (tmp_path / "scale.svg").read_text().count("Efficiency") == 1
    page = tmp_path / "page.html"
    assert perfkit("report", runs[1], "--out", page, "--light").status == 0
    assert 'id="scaling-efficiency"' in page.read_text()
    found = replace(empty_book(), diagnosed=(DIAGNOSED,))
    (tmp_path / "optimize.json").write_bytes(msgspec.json.encode(found))
    (tmp_path / "scale.json").write_text("{")
    ended = perfkit("report", tmp_path, "--out", page, "--light")  # the folder of a search
    assert ended.status == 0
    assert 'id="attempts"' in page.read_text()
    assert "scale.json is left out of the report" in ended.err
    assert 'id="scaling-efficiency"' not in page.read_text()

"""`perfkit compare`: how runs are named, what is printed, and when it ends with 1."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from perfkit.analyzers.analysis import encode
from perfkit.cli.compare import repeated, share, sides
from perfkit.errors import UsageError
from tests.analyzers.test_compare import run_at
from tests.cli.conftest import Call


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """Write three analyses at about 100 ms and three at about 110 ms."""
    found = {}
    for name, ms in {"a1": 100, "a2": 101, "a3": 99, "b1": 110, "b2": 111, "b3": 109}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "analysis.json").write_bytes(encode(run_at(ms, name)))
        found[name] = str(folder)
    return found


def test_several_runs_follow_one_option() -> None:
    options = ("--base", "--new")
    given = ["--base", "a", "b", "--json", "--new", "c", "d"]
    spread = ["--base", "a", "--base", "b", "--json", "--new", "c", "--new", "d"]
    assert repeated(given, options) == spread
    assert repeated(spread, options) == spread
    assert repeated(["a", "b", "--max-slowdown", "3%"], options) == [
        "a",
        "b",
        "--max-slowdown",
        "3%",
    ]


def test_a_certain_slow_down_fails_the_gate(perfkit: Call, runs: dict[str, str]) -> None:
    arms = [
        "--base",
        runs["a1"],
        runs["a2"],
        runs["a3"],
        "--new",
        runs["b1"],
        runs["b2"],
        runs["b3"],
    ]
    ended = perfkit("compare", *arms, "--max-slowdown", "3%")
    assert ended.status == 1
    assert ended.out.startswith("Slower: the median step went from 100 ms to 110 ms (+10%)")
    assert "Gate: failed" in ended.out
    assert ended.err == "perfkit: the median step is slower by at least 7.6%, 3.0% is allowed\n"
    allowed = perfkit("compare", *arms, "--max-slowdown", "7.7%")
    assert allowed.status == 0
    assert "Gate: passed" in allowed.out and "is not ruled out: more runs tell" in allowed.out
    assert "ruled out" not in perfkit("compare", *arms, "--max-slowdown", "30%").out
    assert perfkit("compare", *arms).status == 0


def test_one_run_each_never_fails(perfkit: Call, runs: dict[str, str]) -> None:
    ended = perfkit("compare", runs["a1"], runs["b1"], "--max-slowdown", "1%")
    assert ended.status == 0
    assert ended.out.startswith("Cannot tell: one run each")
    assert "Gate: not decided" in ended.out
    assert "--base RUN... --new RUN..." in ended.err
    told = perfkit("compare", runs["a1"], runs["b1"], "--max-slowdown=1%", "--single-run-sd=1%")
    assert told.status == 1


def test_json_is_alone_on_stdout(perfkit: Call, runs: dict[str, str]) -> None:
    ended = perfkit("compare", runs["a1"], runs["b1"], "--json")
    document = json.loads(ended.out)
    assert (document["verdict"], document["base"]["runs"]) == ("cannot_tell", ["a1"])
    assert document["speed"][0]["ratio"] == pytest.approx(1.1)


def test_github_markdown_holds_tables_and_no_foreign_markup(
    perfkit: Call, runs: dict[str, str]
) -> None:
    out = perfkit("compare", runs["a1"], runs["b1"], "--format", "github").out
    assert out.startswith("### perfkit compare: cannot tell\n")
    assert "| median step (runs: 1 and 1) | 100 ms | 110 ms | +10% | cannot tell |" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["A"], "1 given"),
        (["A", "B", "C"], "3 given"),
        (["A", "B", "--base", "C"], "either BASE NEW or"),
        (["--base", "A"], "two sides"),
        (["--base", "A", "A", "--new", "B"], "named twice"),
        (["A", "B", "--max-slowdown", "much"], "not a share"),
        ([], "two sides"),
    ],
)
def test_wrong_usage_is_one_line(perfkit: Call, arguments: list[str], reason: str) -> None:
    ended = perfkit("compare", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert reason in ended.err and ended.err.count("\n") == 1


def test_the_same_run_twice_is_no_repetition(perfkit: Call, tmp_path: Path) -> None:
    made = run_at(100.0, "one")
    launched = encode(replace(made, run=replace(made.run, launcher="torchrun")))
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(launched)
    ended = perfkit("compare", "--base", tmp_path / "a", tmp_path / "b", "--new", tmp_path / "a")
    assert ended.status == 2 and "a run is given twice on one side" in ended.err


def test_what_is_no_run_is_refused(perfkit: Call, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    ended = perfkit("compare", tmp_path / "a", tmp_path / "a")
    assert ended.status == 3 and "neither a run folder nor an analysis.json" in ended.err


def test_shares_are_read_as_percent_or_fraction() -> None:
    assert share("3%", "--x") == pytest.approx(0.03)
    assert share("0.03", "--x") == pytest.approx(0.03)
    assert share(None, "--x") is None
    with pytest.raises(UsageError, match="--x -1%"):
        share("-1%", "--x")


def test_two_positions_are_base_and_new() -> None:
    assert sides([Path("a"), Path("b")], [], []) == ([Path("a")], [Path("b")])


def test_repetitions_calibrate_single_runs(perfkit: Call, tmp_path: Path) -> None:
    """Three unchanged runs differ by 1 %; two single runs 10 % apart are then told apart."""
    found = {}
    for name, ms in {"a1": 100, "a2": 101, "a3": 99, "b1": 110, "c1": 101}.items():
        (tmp_path / name).mkdir()
        made = run_at(ms, name)
        made = replace(made, run=replace(made.run, command="torchrun train.py"))
        (tmp_path / name / "analysis.json").write_bytes(encode(made))
        found[name] = str(tmp_path / name)
    kept = ["--calibration", str(tmp_path / "sub" / "runs.jsonl")]
    first = perfkit("compare", found["a1"], found["b1"], *kept)
    assert first.out.startswith("Cannot tell: one run each")
    arms = ["--base", found["a1"], found["a2"], found["a3"], "--new", found["b1"]]
    assert perfkit("compare", *arms, *kept).status == 0
    assert perfkit("compare", *arms, *kept).status == 0  # the same runs are not added twice
    assert len((tmp_path / "sub" / "runs.jsonl").read_text().splitlines()) == 1
    told = perfkit("compare", found["a1"], found["b1"], *kept, "--max-slowdown", "3%")
    assert told.status == 1 and told.out.startswith("Slower")
    assert "3 earlier runs of this program differed by: 1.0%" in told.out
    same = perfkit("compare", found["a1"], found["c1"], *kept, "--max-slowdown", "3%")
    assert same.status == 0 and same.out.startswith("No difference shown")
    (tmp_path / "sub" / "runs.jsonl").write_text("nonsense\n")
    broken = perfkit("compare", found["a1"], found["b1"], *kept)
    assert broken.status == 3 and "not a calibration file" in broken.err

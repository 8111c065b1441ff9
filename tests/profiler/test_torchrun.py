"""Two real ranks under torchrun, with and without capture, in as few launches as will do."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.profiler.launching import TORCHRUN, TRAIN, node, plain, profile, ranks

pytestmark = pytest.mark.real

WINDOWS = [[3, 4], [6, 30]]
PAUSE_NS = 20e6
CLOCK_NS = 1e6
"""How far Kineto's clock may be from the one of the step lines."""


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """A run of eight steps with two windows, the second of which outlives the run."""
    base = tmp_path_factory.mktemp("torchrun")
    more = (f"--pause={PAUSE_NS / 1e9}", f"--checkpoint={base / 'ck.pt'}")
    command = (*TORCHRUN, "--standalone", TRAIN, "--workers=1", *more)
    ended = profile(base / "run", *command, windows=WINDOWS, env={"PERFKIT_TEST_TOKEN": "hush"})
    return base / "run", ended.stdout, ended.returncode


@pytest.fixture(scope="module")
def run(captured: tuple[Path, str, int]) -> Path:
    return captured[0]


def test_losses_and_stdout_are_those_of_the_bare_command(captured: tuple[Path, str, int]) -> None:
    bare = plain(*TORCHRUN, "--standalone", TRAIN, "--workers=1")
    assert bare.returncode == 0
    assert captured[1:] == (bare.stdout, 0)
    assert bare.stdout.count("0x") == 8


def test_two_ranks_have_a_folder_and_nobody_else(run: Path) -> None:
    assert [r.facts["rank"] for r in ranks(run)] == [0, 1]
    assert [r.path.parent.name for r in ranks(run)] == ["attempt0", "attempt0"]
    assert [r.facts["world_size"] for r in ranks(run)] == [2, 2]


def test_every_step_has_one_line_and_the_lines_adjoin(run: Path) -> None:
    for rank in ranks(run):
        lines = rank.records("step")
        assert rank.steps == list(range(8))
        assert all(a["t1"] == b["t0"] for a, b in pairwise(lines))
        assert all(line["t0"] < line["t1"] for line in lines)
        assert [line["mb"] for line in lines] == [1] * 8
        assert [line["n"] for line in lines] == [8] * 8
        assert not any("tok" in line for line in lines)
        assert all(0 < line["in"] < line["t1"] - line["t0"] for line in lines)


def test_only_the_step_with_an_evaluation_is_marked(run: Path) -> None:
    for rank in ranks(run):
        assert [line["i"] for line in rank.records("step") if line["ev"]] == [5]


def test_only_the_rank_that_saved_spent_time_on_it(run: Path) -> None:
    saved = [[line["i"] for line in r.records("step") if line["ck"]] for r in ranks(run)]
    assert saved == [[4], []]


def test_windows_are_traced_and_the_unfinished_one_too(run: Path) -> None:
    for rank in ranks(run):
        assert rank.traces == ["trace-0003-0004.json.gz", "trace-0006-0007.json.gz"]
        closed = rank.records("window")
        assert [(w["first"], w["last"]) for w in closed] == [(3, 4), (6, 7)]
        assert [w["file"] for w in closed] == rank.traces
        profiled = [line["i"] for line in rank.records("step") if line["pr"]]
        assert profiled == [2, 3, 4, 5, 6, 7]


def test_a_trace_names_steps_waits_regions_and_collectives(run: Path) -> None:
    for rank in ranks(run):
        events = rank.events("trace-0003-0004.json.gz")
        names = [event.get("name") for event in events]
        assert [n for n in names if str(n).startswith("ProfilerStep#")] == [
            f"ProfilerStep#{step}" for step in (2, 3, 4)
        ]
        assert names.count("perfkit::input_wait") == 3
        assert names.count("perfkit::loss") == 3
        assert "gloo:all_reduce" in names
        step = next(e for e in events if e.get("name") == "ProfilerStep#3")
        assert step["tid"] == rank.facts["training_thread"]
        updates = [e for e in events if str(e.get("name")).startswith("Optimizer.step#")]
        assert not any(e.get("args", {}).get("finished") is False for e in updates)


def test_step_ranges_agree_with_step_lines(run: Path) -> None:
    """A range begins after the line before it and ends after its own, and never a pause later.

    However busy the machine is: the pause lies within the step, so before its line's end.
    """
    for rank in ranks(run):
        ends_ns = {line["i"]: line["u1"] for line in rank.records("step")}
        trace = rank.trace("trace-0003-0004.json.gz")
        base_ns = trace["baseTimeNanoseconds"]
        for event in trace["traceEvents"]:
            if event.get("name") in ("ProfilerStep#3", "ProfilerStep#4"):
                step = int(event["name"].partition("#")[2])
                begun_ns = base_ns + event["ts"] * 1e3
                ended_ns = begun_ns + event["dur"] * 1e3
                assert ends_ns[step - 1] - CLOCK_NS < begun_ns < ends_ns[step] - PAUSE_NS
                assert ends_ns[step] - CLOCK_NS < ended_ns < ends_ns[step + 1] - PAUSE_NS


def test_collectives_are_the_same_on_both_ranks(run: Path) -> None:
    first, second = ([*r.records("c", "collectives.jsonl")] for r in ranks(run))
    keys = ("group", "seq", "op", "sizes", "dtypes", "step")
    assert [[c[k] for k in keys] for c in first] == [[c[k] for k in keys] for c in second]
    assert {c["op"] for c in first} == {"all_reduce"}
    assert {c["step"] for c in first} == {2, 3, 4, 5, 6, 7}
    sequence = [c["seq"] for c in first]
    assert sequence == sorted(set(sequence))
    elements = {c["step"]: 0 for c in first}
    for c in first:
        elements[c["step"]] += c["sizes"][0][0]
    assert set(elements.values()) == {32 * 64 + 64 + 64 * 4 + 4}


def test_facts_describe_the_rank(run: Path) -> None:
    for rank, facts in enumerate(r.facts for r in ranks(run)):
        assert facts["activated_by"] == "init_process_group"
        assert facts["step_source"] == "optimizer"
        assert facts["anchor"] == "AdamW"
        assert (facts["backend"], facts["device_kind"], facts["local_rank"]) == (
            "gloo",
            "cpu",
            rank,
        )
        assert facts["model"]["class"] == "Sequential"
        assert facts["model"]["parameters"] == 32 * 64 + 64 + 64 * 4 + 4
        assert facts["model"]["gradient_bytes"] == 4 * facts["model"]["parameters"]
        assert facts["loader"]["num_workers"] == 1
        assert facts["loader"]["batch_size"] == 8
        assert facts["process_groups"][0]["ranks"] == [0, 1]
        assert facts["ddp"]["bucket_cap_bytes"] > 0
        assert facts["ddp_logging"]["world_size"] == 2
        assert "warnings" not in facts


def test_the_node_records_the_command_and_its_end(run: Path) -> None:
    facts = node(run)
    assert facts["launcher"] == "torchrun"
    assert facts["exit_status"] == 0
    assert facts["signal"] is None
    assert facts["started_unix_ns"] < facts["ended_unix_ns"]
    assert facts["windows"] == WINDOWS
    assert facts["warnings"] == []
    assert "hush" not in json.dumps(facts)
    assert {r.facts["run_id"] for r in ranks(run)} == {facts["run_id"]}
    assert {r.facts["parent_node"] for r in ranks(run)} == {facts["node"]}


def test_each_rank_ends_once_and_last(run: Path) -> None:
    for rank in ranks(run):
        (end,) = rank.records("end")
        assert (end["how"], end["status"]) == ("exit", None)
        last = (rank.path / "steps.jsonl").read_text().splitlines()[-1]
        assert json.loads(last) == end


def test_no_draft_is_left_behind(run: Path) -> None:
    assert [p for p in run.rglob("*") if p.name.endswith(".tmp")] == []
    assert not (run / "boot-errors.log").exists()

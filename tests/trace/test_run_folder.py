"""Run folders: complete, live, torn, mixed, of several nodes and attempts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from perfkit.errors import InputError
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, Run
from perfkit.trace.run import cache_folder, load_rank, open_run
from perfkit.trace.steplines import read_step_file
from tests.trace.folders import (
    MONO_NS,
    STEP_NS,
    UNIX_NS,
    add_node,
    add_rank,
    add_trace,
    step_line,
    write_lines,
)


def codes(run: Run) -> set[str]:
    return {issue.code for issue in run.issues}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    add_node(tmp_path)
    for rank in (0, 1):
        add_trace(add_rank(tmp_path, rank), 2, 4)
    return tmp_path


class TestWholeRuns:
    """A run that ended well."""

    def test_ranks_and_facts(self, run_folder: Path) -> None:
        run = open_run([run_folder])
        assert [record.rank for record in run.ranks] == [0, 1]
        assert (run.run_id, run.world_size, run.attempts) == ("r1", 2, 1)
        assert [node.node for node in run.nodes] == ["host-1"]
        assert not run.issues
        assert {record.ended for record in run.ranks} == {"exit"}

    def test_step_lines_in_unix_time(self, run_folder: Path) -> None:
        lines = open_run([run_folder]).ranks[0].lines
        assert lines.index.tolist() == list(range(6))
        assert lines.start_ns.tolist() == [UNIX_NS + i * STEP_NS for i in range(6)]
        assert (lines.end_ns - lines.start_ns).tolist() == [STEP_NS] * 6
        assert lines.samples.tolist() == [8] * 6
        assert lines.tokens.tolist() == [NONE] * 6

    def test_a_loaded_rank(self, run_folder: Path) -> None:
        trace = load_rank(open_run([run_folder]).ranks[1], cache=None)
        assert (trace.rank, trace.world_size, trace.node) == (1, 2, "0")
        assert trace.clock_domain == "boot-1"
        assert trace.steps.source == "perfkit"
        assert trace.steps.index.tolist() == [1, 2, 3, 4]
        assert trace.steps.complete.tolist() == [False, True, True, True]  # 1 is warm-up
        assert trace.training_threads == (75,)
        assert trace.recorders == {"input_wait", "checkpoint", "gc", "compile"}
        assert [group.ranks for group in trace.groups] == [(0, 1)]

    def test_several_windows_of_a_rank(self, run_folder: Path) -> None:
        add_trace(next(run_folder.glob("attempt0/rank00000*")), 6, 7)
        trace = load_rank(open_run([run_folder]).ranks[0], cache=None)
        assert trace.steps.index.tolist() == [1, 2, 3, 4, 5, 6, 7]
        # Steps 6 and 7 have no line: the process ended before they did.
        assert trace.steps.complete.tolist() == [False, True, True, True, False, False, False]
        ops = trace.events.kind == Kind.OP
        assert trace.events.step[ops].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert len(trace.sources) == 2

    def test_plain_and_packed_trace_count_once(self, run_folder: Path) -> None:
        folder = next(run_folder.glob("attempt0/rank00000*"))
        add_trace(folder, 2, 4, suffix=".json")
        (folder / "trace-0002-0004.json.tmp").write_text("{")
        assert len(open_run([run_folder]).ranks[0].traces) == 1

    def test_only_the_last_attempt_counts(self, run_folder: Path) -> None:
        for rank in (0, 1):
            add_rank(run_folder, rank, attempt=1, steps=3)
        run = open_run([run_folder])
        assert run.attempts == 2
        assert [len(record.lines.index) for record in run.ranks] == [3, 3]

    def test_node_folders_join(self, tmp_path: Path) -> None:
        for rank, name in enumerate(("a", "b")):
            add_node(tmp_path / name, f"host-{name}")
            add_rank(tmp_path / name, rank)
        run = open_run([tmp_path / "a", tmp_path / "b"])
        assert [record.rank for record in run.ranks] == [0, 1]
        assert "RANKS_MISSING" not in codes(run)
        alone = open_run([tmp_path / "b"])
        missing = next(issue for issue in alone.issues if issue.code == "RANKS_MISSING")
        assert missing.ranks == (0,)

    def test_gc_and_compile_spans_become_events(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        folder = add_rank(tmp_path, 0, world_size=1)
        add_trace(folder, 2, 4)
        at = MONO_NS + 3 * STEP_NS + 5000
        lines = [step_line(i) for i in range(6)]
        lines[3] |= {"gc": [[at, 700]], "co": [[at + 1000, 900]]}
        lines[0] |= {"gc": [[MONO_NS, 100]]}  # outside the window
        write_lines(folder / "steps.jsonl", lines)
        trace = load_rank(open_run([tmp_path]).ranks[0], cache=None)
        table = trace.events
        for kind, start, duration in ((Kind.GC, 5000, 700), (Kind.COMPILE, 6000, 900)):
            rows = np.flatnonzero(table.kind == kind)
            assert table.start_ns[rows].tolist() == [UNIX_NS + 3 * STEP_NS + start]
            assert table.duration_ns[rows].tolist() == [duration]
            assert table.thread[rows].tolist() == [75]
            assert table.step[rows].tolist() == [3]
        assert (np.diff(table.start_ns) >= 0).all()

    def test_eval_steps_are_marked(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        folder = add_rank(tmp_path, 0, world_size=1)
        add_trace(folder, 2, 4)
        write_lines(folder / "steps.jsonl", [step_line(i, ev=int(i == 3)) for i in range(6)])
        trace = load_rank(open_run([tmp_path]).ranks[0], cache=None)
        assert trace.steps.has_eval.tolist() == [False, False, True, False]


class TestBrokenRuns:
    """What is missing is said, the rest is read."""

    def test_a_torn_last_line_is_ignored(self, run_folder: Path) -> None:
        path = next(run_folder.glob("attempt0/rank00000*")) / "steps.jsonl"
        whole = path.read_bytes()
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            lines = read_step_file(path).lines
            assert lines.index.tolist() == list(range(len(lines.index)))
            assert not read_step_file(path).issues
        assert len(lines.index) == 6

    def test_damaged_lines_are_counted(self, run_folder: Path) -> None:
        path = next(run_folder.glob("attempt0/rank00000*")) / "steps.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[3] = b'{"k":"step","i":"two"\n'
        path.write_bytes(b"".join(lines))
        record = open_run([run_folder]).ranks[0]
        assert len(record.lines.index) == 5
        assert record.issues[0].code == "STEP_LINES_UNREADABLE"

    def test_steps_that_a_full_disk_took_are_counted(self, run_folder: Path) -> None:
        path = next(run_folder.glob("attempt0/rank00000*")) / "steps.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line).get("i") not in (2, 3)]
        path.write_bytes(b"".join(kept))
        (issue,) = open_run([run_folder]).ranks[0].issues
        assert issue.code == "STEP_LINES_MISSING"
        assert "2 steps from step 2 on have no line" in issue.message

    def test_a_clock_that_was_set_leaves_out_what_was_traced_meanwhile(
        self, run_folder: Path
    ) -> None:
        folder = next(run_folder.glob("attempt0/rank00000*"))
        before = open_run([run_folder]).ranks[0]
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_bytes().splitlines()]
        for line in lines:
            if line["k"] == "step" and line["i"] >= 3:
                line["u1"] -= 700_000_000
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "steps.jsonl").write_text(text)
        for name in ("trace-0001-0002.json", "trace-0004-0005.json", "trace-0005-0005.json"):
            (folder / name).write_text("{}")
        after = open_run([run_folder]).ranks[0]
        kept = {path.name for path in after.traces} - {path.name for path in before.traces}
        assert kept == {"trace-0001-0002.json", "trace-0005-0005.json"}
        (issue,) = after.issues
        assert issue.code == "CLOCK_SET"
        assert "the clock was set back by 700 ms in step 3: step times hold" in issue.message
        took = after.lines.end_ns - after.lines.start_ns
        assert took.tolist() == (before.lines.end_ns - before.lines.start_ns).tolist()

    def test_a_killed_rank(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        add_rank(tmp_path, 0)
        add_rank(tmp_path, 1, ended=None, steps=3)
        run = open_run([tmp_path])
        assert [record.ended for record in run.ranks] == ["exit", "killed"]
        assert len(run.ranks[1].lines.index) == 3
        assert run.ranks[1].issues[0].code == "RANK_KILLED"
        assert "after step 2" in run.ranks[1].issues[0].message
        assert "TRACES_MISSING" in codes(run)

    def test_a_live_run(self, tmp_path: Path) -> None:
        add_node(tmp_path, ended_unix_ns=None)
        add_trace(add_rank(tmp_path, 0, world_size=1, ended=None), 2, 4)
        record = open_run([tmp_path]).ranks[0]
        assert record.ended == "running"
        assert not record.issues
        assert len(load_rank(record, cache=None).steps.index) == 4

    def test_an_exception_is_told(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        folder = add_rank(tmp_path, 0, world_size=1)
        end = {"k": "end", "how": "exception", "status": 1, "t": 1, "u": 1}
        failure = {"k": "exception", "type": "ValueError", "text": "no"}
        write_lines(folder / "steps.jsonl", [step_line(0), failure, end])
        record = open_run([tmp_path]).ranks[0]
        assert record.ended == "exception"
        assert "ValueError: no" in record.issues[0].message

    def test_a_rank_without_a_trace(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        add_rank(tmp_path, 0, world_size=1)
        run = open_run([tmp_path])
        assert "TRACES_MISSING" in codes(run)
        trace = load_rank(run.ranks[0], cache=None)
        assert len(trace.events) == 0
        assert len(trace.steps.index) == 0
        assert trace.clock_domain == "boot-1"

    def test_a_broken_trace_of_one_rank_is_an_issue(self, run_folder: Path) -> None:
        path = next(run_folder.glob("attempt0/rank00001*/trace*"))
        path.write_bytes(b"")
        trace = load_rank(open_run([run_folder]).ranks[1], cache=None)
        assert [(i.code, i.severity, i.ranks) for i in trace.issues] == [
            ("TRACE_UNREADABLE", "error", (1,))
        ]
        assert trace.issues[0].message.startswith("rank 1's trace: empty")

    def test_missing_facts(self, run_folder: Path) -> None:
        next(run_folder.glob("attempt0/rank00001*/facts.json")).unlink()
        record = open_run([run_folder]).ranks[1]
        assert record.rank == 1
        assert record.issues[0].code == "FACTS_MISSING"
        steps = load_rank(record, cache=None).steps
        assert steps.complete.tolist() == [False, True, True, True]

    def test_duplicated_ranks(self, run_folder: Path) -> None:
        add_rank(run_folder, 1, pid=900, steps=9)
        run = open_run([run_folder])
        duplicate = next(issue for issue in run.issues if issue.code == "DUPLICATE_RANKS")
        assert duplicate.ranks == (1,)
        assert len(run.ranks[1].lines.index) == 9

    def test_mixed_runs_in_one_folder(self, run_folder: Path) -> None:
        later = {"mono_ns": 1, "unix_ns": UNIX_NS + 10**12}
        for rank in (0, 1):
            add_rank(run_folder, rank, pid=900, run_id="r2", clock=later, steps=2)
        run = open_run([run_folder])
        assert "MIXED_RUNS" in codes(run)
        assert [record.facts["run_id"] for record in run.ranks] == ["r2", "r2"]

    def test_a_wall_clock_set_back_does_not_tear_steps(self, tmp_path: Path) -> None:
        add_node(tmp_path)
        folder = add_rank(tmp_path, 0, world_size=1)
        lines = [step_line(i) for i in range(6)]
        for line in lines[3:]:
            line["u1"] -= 3_600 * 10**9
        write_lines(folder / "steps.jsonl", lines)
        steps = open_run([tmp_path]).ranks[0].lines
        assert (steps.end_ns - steps.start_ns).tolist() == [STEP_NS] * 6

    @pytest.mark.parametrize("make", ["nodes", "attempt0"])
    def test_a_run_without_ranks(self, tmp_path: Path, make: str) -> None:
        (tmp_path / make).mkdir()
        with pytest.raises(InputError) as caught:
            open_run([tmp_path])
        assert str(tmp_path) in caught.value.message
        assert caught.value.hint

    def test_a_run_folder_beside_a_trace(self, run_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="together"):
            open_run([run_folder, next(run_folder.rglob("trace*"))])

    def test_nothing_given(self) -> None:
        with pytest.raises(InputError, match="nothing to read"):
            open_run([])


class TestCacheFolder:
    """Where the cache goes."""

    def test_beside_the_run_or_with_the_user(
        self, run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        run = open_run([run_folder])
        assert cache_folder(run) == run_folder / "cache"
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert cache_folder(run) == tmp_path / "xdg" / "perfkit"


def test_ranks_that_were_not_to_write_traces_are_no_flaw(tmp_path: Path) -> None:
    add_node(tmp_path)
    add_trace(add_rank(tmp_path, 0), 2, 4)
    add_rank(tmp_path, 1, traced=False)
    (issue,) = open_run([tmp_path]).issues
    assert (issue.code, issue.severity, issue.ranks) == ("TRACES_NOT_ASKED_FOR", "info", (1,))


def test_why_no_rank_has_a_trace(tmp_path: Path) -> None:
    add_node(tmp_path / "limit")
    for rank in range(2):
        add_rank(tmp_path / "limit", rank, warnings=["no uuid", "window 2:6 skipped: too large"])
    (issue,) = (i for i in open_run([tmp_path / "limit"]).issues if i.code == "TRACES_MISSING")
    assert issue.message.startswith("no rank has a trace (window 2:6 skipped: too large): only")
    add_node(tmp_path / "nobody")
    for rank in range(2):
        add_rank(tmp_path / "nobody", rank, traced=False)
    (issue,) = open_run([tmp_path / "nobody"]).issues
    assert (issue.code, issue.severity) == ("TRACES_NOT_ASKED_FOR", "warning")
    assert issue.message == "--trace-ranks names none of the 2 ranks, so none has a trace"

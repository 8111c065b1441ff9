"""A run that is going on: windows on demand, dumps, hangs, stacks around the window."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfkit.errors import InputError
from perfkit.profiler import hang, ordering, pyspy
from perfkit.profiler.inrank.orders import Orders
from tests.profiler.launching import (
    TIMEOUT_S,
    TORCHRUN,
    TRAIN,
    clean_environment,
    last_steps,
    parent_command,
    ranks,
    until,
)

Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a profiled training of two ranks into tmp_path/run; it is ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
        command = (*TORCHRUN, "--standalone", TRAIN, *arguments)
        process = subprocess.Popen(
            parent_command(tmp_path / "run", command, **options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)


def perfkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of perfkit's in a process of its own."""
    command = [sys.executable, "-m", "perfkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


@pytest.mark.real
def test_a_running_job_is_traced_dumped_and_sampled(tmp_path: Path, launch: Launch) -> None:
    run = tmp_path / "run"
    process = launch("--steps=1000000", "--pause=0.05", windows=[[8, 12]], py_spy=True)
    until(lambda: len(list((run / "stacks").glob("*.raw"))) == 2)
    captured = perfkit("capture", str(run), "--steps=3", "--json")
    assert captured.returncode == 0
    said = re.match(r"perfkit: 2 ranks will trace the steps (\d+) to (\d+), in", captured.stderr)
    assert said is not None
    first, last = int(said[1]), int(said[2])
    assert last == first + 2
    told = json.loads(captured.stdout)
    assert (told["first_step"], told["last_step"]) == (first, last)
    assert (told["ranks"], told["missing_ranks"]) == ([0, 1], [])
    until(lambda: min(last_steps(run).values()) > last)
    for rank in ranks(run):
        assert rank.traces == ["trace-0008-0012.json", f"trace-{first:04d}-{last:04d}.json"]
        assert rank.records("window")[-1]["first"] == first
    stacks = sorted((run / "stacks").glob("*.raw"))
    assert [path.name[:9] for path in stacks] == ["rank00000", "rank00001"]
    for path in stacks:  # a rank that sleeps is sampled too, and none of perfkit's own threads
        assert "MainThread" in path.read_text() and "train.py:" in path.read_text()
        assert "perfkit-" not in path.read_text()
    dumped = perfkit("dump", str(run))
    assert dumped.returncode == 0
    (folder,) = (run / "stacks").glob("dump-*")
    for path in folder.glob("rank*.json"):
        one = json.loads(path.read_bytes())
        assert one["last_step"] > last
        assert one["collective"]["op"] == "all_reduce"
        assert one["stacks"] is not None
    text = (folder / "dump.txt").read_text()
    assert dumped.stdout == text
    assert text.count("\nrank ") == 2
    assert text.count("    train (") == 2
    assert "moving" in text.split("\n\n", 1)[0] or text.startswith("\n")
    again = json.loads(perfkit("dump", str(run), "--json").stdout)
    assert [one["rank"] for one in again["ranks"]] == [0, 1]
    assert all(one["last_step"] > last and one["stacks"] for one in again["ranks"])
    assert sorted(Path(again["folder"]).glob("rank*.json"))
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=TIMEOUT_S)
    late = perfkit("capture", str(run))
    assert (late.returncode, late.stderr.count("\n")) == (3, 1)
    assert "no rank is running" in late.stderr


@pytest.mark.real
def test_a_hang_is_dumped_once_and_names_the_rank_that_does_not_come(
    tmp_path: Path, launch: Launch
) -> None:
    """Rank 1 sleeps in step 5; rank 0 waits for it in backward."""
    run = tmp_path / "run"
    launch("--end=hang", "--at=5", windows=[[30, 31]], on_hang=2.0)
    text = until(lambda: "".join(p.read_text() for p in (run / "stacks").glob("*/dump.txt")))
    summary, text = text.split("\n\n", 1)
    assert re.fullmatch(r"group default_pg: .* not so rank 1 \(number \d+\)", summary)
    waiting, asleep = text.split("rank 1 ")
    assert "last step 4" in waiting and "last step 4" in asleep
    assert "backward" in waiting
    assert "    end_as_told (" in asleep


class Clock:
    """A clock that tells what it is told, and one rank whose newest step that is told too."""

    now = 0.0
    step: int | None = 7

    def monotonic(self) -> float:
        return self.now

    def find(self, run: Path, node: str) -> list[Any]:
        line = None if self.step is None else {"i": self.step}
        return [SimpleNamespace(pid=1, alive=lambda: True, last_step=lambda: line)]


def test_a_hang_is_dumped_once_and_the_next_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    dumped: list[float] = []
    told: list[str] = []

    def dump(run: Path) -> SimpleNamespace:
        dumped.append(clock.now)
        return SimpleNamespace(folder=Path("x"))

    monkeypatch.setattr(hang, "time", clock)
    monkeypatch.setattr(hang, "rank_folders", clock)
    monkeypatch.setattr(hang, "dump", dump)
    watch = hang.HangWatch(Path("run"), "n", 2.0, told.append)
    for clock.now in (0.0, 1.0, 1.9, 2.0, 2.2, 9.0, 99.0):
        watch.act()
    assert dumped == [2.0]
    clock.step = 8
    for clock.now in (100.0, 101.9, 102.1, 110.0):
        watch.act()
    assert dumped == [2.0, 102.1]
    assert told == watch.warnings == ["no rank has ended a step for 2 s: see x/dump.txt"] * 2
    clock.step = None  # a new attempt, which hangs before its first step
    for clock.now in (120.0, 121.9, 122.1):
        watch.act()
    assert dumped[2:] == [122.1]


def test_without_the_right_to_trace_the_reason_and_the_rest_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "py-spy"
    refusing.write_text(
        "#!/bin/sh\necho 'Error: Permission Denied: Try running again' >&2\nexit 1\n"
    )
    refusing.chmod(0o755)
    monkeypatch.setattr(pyspy, "program", lambda: str(refusing))
    assert pyspy.stacks(os.getpid()) == (None, pyspy.NO_RIGHT)
    recording = pyspy.Recording(str(refusing), os.getpid(), tmp_path / "x.speedscope.json")
    until(recording.has_enough)
    assert recording.end() == pyspy.NO_RIGHT


def test_a_recording_that_has_not_begun_says_so(tmp_path: Path) -> None:
    slow = tmp_path / "py-spy"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    recording = pyspy.Recording(str(slow), os.getpid(), tmp_path / "x.speedscope.json")
    assert not recording.has_enough()
    assert recording.end() == "it ended before py-spy had begun"


def test_a_process_is_sampled_for_a_second_whatever_it_does(tmp_path: Path) -> None:
    path = pyspy.program()
    if path is None:
        pytest.skip("needs py-spy")
    target = tmp_path / "x.speedscope.json"
    code = "import threading as t\nt.Thread(target=t.Event().wait, name='perfkit-x').start()\n"
    command = [sys.executable, "-c", code + "print(1, flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None and waiting.stdout.read(1)
        recording = pyspy.Recording(path, waiting.pid, target)
        until(recording.has_enough)
        failure = recording.end()
        waiting.kill()
    if failure == pyspy.NO_RIGHT:
        pytest.skip(failure)
    assert failure == ""
    stacks = target.with_suffix("").with_suffix(".raw").read_text()
    assert "MainThread" in stacks and "<string>:4" in stacks
    assert all("perfkit-" not in text for text in (stacks, target.read_text()))


def test_collapsed_stacks_count_the_samples() -> None:
    frames = [{"name": "main", "file": "a.py", "line": 3}, {"name": "f", "file": "a.py", "line": 1}]
    document = {
        "shared": {"frames": frames},
        "profiles": [{"name": "t", "samples": [[0], [0, 1], [0, 1]]}],
    }
    assert pyspy.collapse(document) == "t;main (a.py:3) 1\nt;main (a.py:3);f (a.py:1) 2\n"


class FakeRank:
    """Records what is ordered of it."""

    step, ended = 7, False

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.window: Any = self
        self.windows: list[tuple[int, int]] = []
        self.reminders = 0

    def add(self, first: int, last: int) -> None:
        self.windows.append((first, last))

    def remind(self) -> None:
        self.reminders += 1

    def warn(self, text: str) -> None:
        raise AssertionError(text)


@pytest.mark.parametrize("traced", [True, False])
def test_an_order_is_carried_out_once_and_old_ones_never(tmp_path: Path, traced: bool) -> None:
    ordering.place(tmp_path, {"order": "window", "first": 1, "last": 2})
    rank = FakeRank(tmp_path)
    orders = Orders(rank, str(tmp_path), traced)
    ordering.place(tmp_path, {"order": "window", "first": 30, "last": 39})
    orders.look()
    orders.look()
    assert rank.windows == ([(30, 39)] if traced else [])
    assert rank.reminders == 2


def test_ranks_that_write_no_traces_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "nodes/n").mkdir(parents=True)
    (tmp_path / "nodes/n/run.json").write_text(json.dumps({"ended_unix_ns": None}))
    folder = tmp_path / "attempt0/rank00000.n.1"
    folder.mkdir(parents=True)
    facts = {"rank": 0, "pid": 1, "attempt": 0, "parent_node": "n", "hostname": "h"}
    (folder / "facts.json").write_text(json.dumps(facts | {"traced": False}))
    ended = perfkit("capture", str(tmp_path))
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)
    assert "none of the running ranks writes traces" in ended.stderr


def test_an_order_for_a_run_that_is_over_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        ordering.order_window(tmp_path, 3)
    (tmp_path / "nodes/n").mkdir(parents=True)
    (tmp_path / "nodes/n/run.json").write_text(json.dumps({"ended_unix_ns": 1}))
    with pytest.raises(InputError, match="no rank is running"):
        ordering.order_window(tmp_path, 3)

"""Trials: limits, a ledger that remembers, failures that stay their own, side effects."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfkit.errors import SetupError
from perfkit.profiler.experiment import Beginning, Experiment, Limits
from perfkit.profiler.stopping import descendants, stop_tree
from perfkit.trace.runner import Ended, Trial, interleaved
from tests.profiler.launching import TORCHRUN, TRAIN, clean_environment, ranks, until


def python(name: str, code: str) -> Trial:
    return Trial(name=name, command=(sys.executable, "-c", code))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the trials' own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


Run = Callable[..., list[Ended]]


@pytest.fixture
def run(here: Path) -> Run:
    """Run trials in one experiment folder."""

    def run(*trials: Trial, limits: Limits | None = None) -> list[Ended]:
        return list(Experiment(here / "out", limits or Limits()).run(trials))

    return run


def test_a_finished_run_is_never_run_again(run: Run, here: Path) -> None:
    count = "open('count', 'a').write('x')"
    first = run(python("a", count))
    again = run(python("a", count), python("b", count))
    assert [(e.ok, e.remembered) for e in first + again] == [
        (True, False),
        (True, True),
        (True, False),
    ]
    assert (here / "count").read_text() == "xx"
    assert again[0].run == here / "out" / "a" and (again[0].run / "nodes").is_dir()


def test_one_failure_does_not_lose_the_rest_and_is_tried_again(run: Run, here: Path) -> None:
    fails_once = (
        "import os, sys; print('hello')\nif not os.path.exists('mend'): raise ValueError(7)"
    )
    ended = run(python("a", fails_once), python("b", ""))
    assert [e.ok for e in ended] == [False, True]
    assert ended[0].reason == "it ended with status 1: ValueError: 7"
    assert ended[0].log is not None and ended[0].log.read_text().startswith("hello\n")
    (here / "mend").touch()
    without = Experiment(here / "out", Limits(), retries=False)
    (same,) = without.run([python("a", fails_once)])
    assert (same.ok, same.remembered, same.reason) == (False, True, ended[0].reason)
    assert [(e.ok, e.remembered) for e in run(python("a", fails_once), python("b", ""))] == [
        (True, False),
        (True, True),
    ]
    assert (here / "out" / "a.failed-1" / "nodes").is_dir()
    assert "ValueError" in (here / "out" / "a.failed-1.log").read_text()


def test_another_command_under_a_known_name_is_refused(run: Run) -> None:
    run(python("a", "pass"))
    with pytest.raises(SetupError, match=r"another command, other options.*--out DIR"):
        run(python("a", "print()"))
    with pytest.raises(SetupError, match="another command, other options"):
        run(python("a", "pass"), limits=Limits(steps=3))


def test_a_torn_ledger_line_is_ignored(run: Run, here: Path) -> None:
    run(python("a", "pass"))
    with (here / "out" / "ledger.jsonl").open("a") as stream:
        stream.write('{"k":"run","na')
    assert run(python("a", "pass"))[0].remembered
    lines = (here / "out" / "ledger.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"k": "header", "schema_version": 1}


def test_a_trial_that_takes_too_long_is_ended_with_its_children(run: Run, here: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        "open('child', 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    for seconds in (2, 8, 32):  # a slow machine may not have come to the child in 2 s
        begun = time.monotonic()
        (ended,) = run(python(f"slow{seconds}", code), limits=Limits(seconds=seconds))
        assert not ended.ok and ended.reason == f"it took longer than {seconds} s and was ended"
        assert time.monotonic() - begun < 60
        if (here / "child").exists():
            break
    pid = int((here / "child").read_text())  # in a session of its own, and gone all the same
    until(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_ignores_the_request_to_end_is_killed() -> None:
    code = (
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
        "print(1, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.read(1)
    stop_tree(process, grace_s=0.2)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert descendants(process.pid) == {}


def test_side_effects_in_the_working_folder_are_listed(here: Path) -> None:
    (here / "old").write_text("1")
    (here / "gone").touch()
    experiment = Experiment(here / "out", Limits())
    code = "import os; open('old', 'a').write('2'); open('new', 'w'); os.remove('gone')"
    assert [e.ok for e in experiment.run([python("a", code)])] == [True]
    found = experiment.side_effects
    assert found is not None
    assert (found.made, found.changed, found.removed) == (("new",), ("old",), ("gone",))


def test_what_begins_is_told(here: Path) -> None:
    told: list[Beginning] = []
    experiment = Experiment(here / "out", Limits(), on_begin=told.append)
    list(experiment.run([python("a", ""), python("b", "")]))
    assert [(b.trial.name, b.number, b.total) for b in told] == [("a", 1, 2), ("b", 2, 2)]


def test_a_command_that_cannot_start_is_refused_at_once(run: Run) -> None:
    with pytest.raises(SetupError, match="command not found"):
        run(Trial(name="a", command=("no-such-command",)))


def test_repetitions_are_interleaved_there_and_back() -> None:
    points = [[python(f"{p}{k}", "") for k in range(2)] for p in "abc"]
    assert [t.name for t in interleaved(points)] == ["a0", "b0", "c0", "c1", "b1", "a1"]


@pytest.mark.real
def test_all_ranks_stop_at_the_agreed_step(here: Path) -> None:
    environment = clean_environment()
    trial = Trial(
        name="two",
        command=(*TORCHRUN, "--standalone", TRAIN, "--steps=1000", "--workers=1"),
        environment={"OMP_NUM_THREADS": environment["OMP_NUM_THREADS"]},
    )
    limits = Limits(steps=12, windows=((3, 5),), seconds=90)
    (ended,) = Experiment(here / "out", limits).run([trial])
    assert ended.ok, ended.reason
    folders = ranks(ended.run)
    assert [r.steps for r in folders] == [list(range(12))] * 2
    assert [r.records("end")[0]["how"] for r in folders] == ["stopped_by_perfkit"] * 2
    assert [r.traces for r in folders] == [["trace-0003-0005.json.gz"]] * 2
    assert ended.log is not None and "Traceback" not in ended.log.read_text()

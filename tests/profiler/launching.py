"""Runs a command under capture in a process of its own, and looks into the run folder."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perfkit.profiler import rank_folders

Found = TypeVar("Found")

SCRIPTS = Path(__file__).parent / "scripts"
TRAIN = str(SCRIPTS / "train.py")
PARENT = str(SCRIPTS / "parent.py")
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2")
TIMEOUT_S = 400
PATIENT = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300"}
"""torchrun kills what has not ended in 30 s, which a loaded machine may take."""


@dataclass(frozen=True)
class RankFolder:
    """One rank's folder, read with nothing but the standard library."""

    path: Path

    @property
    def facts(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / "facts.json").read_bytes())
        return loaded

    def records(self, kind: str, file: str = "steps.jsonl") -> list[dict[str, Any]]:
        lines = (self.path / file).read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["k"] == kind]

    @property
    def steps(self) -> list[int]:
        return [record["i"] for record in self.records("step")]

    @property
    def traces(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("trace-*"))

    def trace(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(gzip.decompress((self.path / name).read_bytes()))
        return loaded

    def events(self, trace: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.trace(trace)["traceEvents"]
        return events


def ranks(run: Path) -> list[RankFolder]:
    """The rank folders of a run, by rank."""
    return [RankFolder(path) for path in sorted(run.glob("attempt*/rank*"))]


def last_steps(run: Path) -> dict[int, int]:
    """Rank to its newest ended step, of a run that is going on: ranks without one are absent."""
    lines = {folder.rank: folder.last_step() for folder in rank_folders.find(run)}
    return {rank: int(str(line["i"])) for rank, line in lines.items() if line is not None}


ELASTIC = re.compile(r"^[A-Z]\d{4} .* torch/distributed/elastic/[^\]]*\] ", re.MULTILINE)
CHANGING = re.compile(
    r"[=-]{5,}|\d{4}-\d\d-\d\d_[\d:]+|(?<=pid: )\d+|(?i:(?<=PID )|(?<=process ))\d+"
)


def launchers_report(stderr: str) -> list[str]:
    """What torchrun says of a failure, attempt by attempt: its log lines and its last words.

    Without times, numbers of processes and the width of its lines; nor what the ranks say.
    """
    logged = [line[m.end() :] for line in stderr.splitlines() if (m := ELASTIC.match(line))]
    last = stderr.rfind("torch.distributed.elastic.multiprocessing.")
    return [CHANGING.sub("", line) for line in (*logged, *stderr[last:].splitlines())]


def until(what: Callable[[], Found]) -> Found:
    """Wait until `what` returns something true."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError


def node(run: Path) -> dict[str, Any]:
    """The only nodes/NODE/run.json of a run."""
    (path,) = run.glob("nodes/*/run.json")
    loaded: dict[str, Any] = json.loads(path.read_bytes())
    return loaded


def clean_environment(**more: str) -> dict[str, str]:
    """Our environment without what would steer a run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFKIT_")}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def parent_command(run: Path, command: tuple[str, ...], **options: object) -> list[str]:
    """The command line that profiles `command` into `run`."""
    return [sys.executable, PARENT, json.dumps({"out": str(run), **options}), *command]


def profile(
    run: Path, *command: str, env: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Profile `command` into `run` and wait for its end."""
    return plain(*parent_command(run, command, **options), env=env)


def plain(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `command` without capture."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=clean_environment(**(env or {})),
    )

"""Calls of the command line, inside the test's process or as a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfkit.cli import app, exits


@dataclass(frozen=True)
class Ended:
    """What a call of the command line left behind."""

    status: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def perfkit(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `perfkit ARGUMENTS` in this process."""

    def call(*arguments: str | Path) -> Ended:
        given = [str(argument) for argument in arguments]
        status = exits.run(lambda: app.build().main(given, "perfkit", standalone_mode=False))
        shown = capsys.readouterr()
        return Ended(status, shown.out, shown.err)

    return call


@pytest.fixture
def perfkit_process(tmp_path: Path) -> Call:
    """Run `python -m perfkit ARGUMENTS` in a process of its own, in an empty folder."""

    def call(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "perfkit", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call

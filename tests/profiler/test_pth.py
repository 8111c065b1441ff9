"""perfkit.pth: the second way into a process, where PYTHONPATH is replaced or ignored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from perfkit.profiler.launch import ProfileOptions, environment_of, request_of
from tests.profiler.launching import clean_environment

ROOT = Path(__file__).parents[2]
SAYS = (
    "import json, sys; print(json.dumps([hasattr(sys, '_perfkit_watcher'), sum(type(f).__name__ =="
    " 'ImportWatcher' for f in sys.meta_path), type(sys.meta_path[0]).__module__]))"
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment laid out as a wheel lays it out: perfkit/ and perfkit.pth."""
    home = tmp_path_factory.mktemp("env")
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    shutil.copytree(ROOT / "profiler", packages / "perfkit/profiler")
    shutil.copy(ROOT / "perfkit/perfkit.pth", packages)
    return home / "bin/python"


def ask(python: Path, *options: str, **environment: str) -> list[object]:
    done = subprocess.run(
        [str(python), *options, "-c", SAYS],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.stderr == ""
    answer: list[object] = json.loads(done.stdout)
    return answer


RUN = {"PERFKIT_RUN_DIR": "/nowhere"}


def test_nothing_happens_outside_a_run(python: Path) -> None:
    assert ask(python)[:2] == [False, 0]


@pytest.mark.parametrize("options", [("-I",), ("-E",), ()])
def test_it_stands_in_where_pythonpath_does_not_reach(
    python: Path, options: tuple[str, ...]
) -> None:
    found = [True, 1, "_perfkit_boot"]
    assert ask(python, *options, **RUN) == found
    assert ask(python, *options, PYTHONPATH="/elsewhere", **RUN) == found


def test_the_launching_parents_copy_goes_before_the_environments(python: Path) -> None:
    """They may be of two releases: the ranks must understand what this parent asks of them."""
    request = request_of(ProfileOptions(), Path("/nowhere"), {"run_id": "x", "node": "n"})
    environment = environment_of({}, request)
    assert ask(python, **environment) == [True, 1, "sitecustomize"]
    both = environment | {"PYTHONPATH": environment["PYTHONPATH"] + os.pathsep + "/elsewhere"}
    assert ask(python, **both) == [True, 1, "sitecustomize"]


def test_the_users_own_sitecustomize_runs_once(python: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine')\n")
    done = subprocess.run(
        [str(python), "-c", "pass"],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
        env={**RUN, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("mine\n", "")


def test_a_build_has_the_file_on_top(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="80")
    source = tmp_path / "source"
    kept = shutil.ignore_patterns(
        ".*", "build", "*.egg-info", "tests", "docs", "traces", "perfkit-*"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=kept)
    code = "from setuptools import setup; setup()"
    subprocess.run(
        [sys.executable, "-c", code, "-q", "build_py", "--build-lib", str(tmp_path / "lib")],
        cwd=source,
        capture_output=True,
        check=True,
        timeout=250,
        env=clean_environment(),
    )
    built = (tmp_path / "lib/perfkit.pth").read_bytes()
    assert built == (ROOT / "perfkit/perfkit.pth").read_bytes()
    assert (tmp_path / "lib/perfkit/profiler/inrank/boot/sitecustomize.py").is_file()

"""Every way to start ranks: each rank has a folder, nobody else has one."""

from __future__ import annotations

import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.profiler.launching import SCRIPTS, TRAIN, RankFolder, node, plain, profile, ranks

SINGLE = str(SCRIPTS / "single.py")


def _check_two_ranks(run: Path) -> list[RankFolder]:
    found = ranks(run)
    assert [r.facts["rank"] for r in found] == [0, 1]
    assert [r.steps for r in found] == [list(range(8))] * 2
    assert [r.traces for r in found] == [["trace-0002-0003.json.gz"]] * 2
    return found


@pytest.mark.real
def test_python_m_torch_distributed_run(tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    done = profile(
        tmp_path / "run", *launcher, "--nproc-per-node=2", TRAIN, "--profile=4", windows=[[2, 9]]
    )
    assert done.returncode == 0, done.stderr
    assert node(tmp_path / "run")["launcher"] == "torch.distributed.run"
    assert done.stdout.count("own events True") == 2
    for rank in _check_two_ranks(tmp_path / "run"):
        assert any("profiler of its own" in text for text in rank.facts["warnings"])
        # Our export lies in step 4, in which the program's profiler starts; it stops in step 5.
        assert [s["i"] for s in rank.records("step") if s["pr"]] == [1, 2, 3, 4, 5]


@pytest.mark.real
def test_spawned_from_a_plain_script_whose_profiler_is_in_the_way(tmp_path: Path) -> None:
    """Of four windows on rank 1 one is undisturbed; the program profiles its steps 3 to 5."""
    done = profile(
        tmp_path / "run",
        *(sys.executable, str(SCRIPTS / "spawn.py"), "--profile=3", "--profile-until=5"),
        windows=[[1, 1], [4, 4], [6, 6], [8, 9]],
        trace_ranks=[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("own events True") == 2
    first, second = ranks(tmp_path / "run")
    assert first.steps == second.steps == list(range(8))
    assert first.traces == []
    assert first.facts["activated_by"] == "init_process_group"
    assert second.traces == ["trace-0001-0001.json.gz"]
    assert second.facts["warnings"] == [
        "window closed early: the program started a profiler of its own",
        "window 4:4 has no trace: it ended before its first step did",
        "window 6:6 skipped: the program's own profiler was running",
        "window 8:9 has no trace: it ended before its first step did",
    ]
    assert [s["i"] for s in second.records("step") if s["pr"]] == list(range(8))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_single_process_and_its_loader_workers(tmp_path: Path, workers: int) -> None:
    done = profile(
        tmp_path / "run", sys.executable, SINGLE, f"--workers={workers}", windows=[[20, 30]]
    )
    assert done.returncode == 0, done.stderr
    (rank,) = ranks(tmp_path / "run")
    assert rank.steps == list(range(8))
    assert rank.traces == []
    assert rank.facts["activated_by"] == "optimizer"
    assert rank.facts["world_size"] == 1
    lines = rank.records("step")
    assert [line["n"] for line in lines] == [4] * 8
    assert [line["tok"] for line in lines] == [16] * 8
    assert lines[0]["t0"] < lines[0]["t1"]
    assert not (rank.path / "collectives.jsonl").exists()


def test_an_environment_with_torch_and_nothing_of_perfkits(tmp_path: Path) -> None:
    """The rank's interpreter cannot import perfkit or what perfkit needs; capture works."""
    python = _environment_with_torch_only(tmp_path)
    missing = ("msgspec", "polars", "typer", "isal", "plotly", "perfkit.version")
    probe = "import importlib, torch\n" + "".join(
        f"try: importlib.import_module({name!r}); print('found', {name!r})\n"
        "except ImportError: pass\n"
        for name in missing
    )
    (tmp_path / "probe.py").write_text(probe)
    assert plain(python, str(tmp_path / "probe.py")).stdout == ""
    script = tmp_path / "uses_perfkit.py"
    script.write_text(
        "import perfkit, runpy\n"
        "assert perfkit.__file__.endswith('stand_in.py')\n"
        "with perfkit.region('data'): pass\n"
        f"runpy.run_path({SINGLE!r}, run_name='__main__')\n"
    )
    done = profile(tmp_path / "run", python, str(script), windows=[[3, 4]])
    assert done.returncode == 0, done.stderr
    (rank,) = ranks(tmp_path / "run")
    assert rank.steps == list(range(8))
    assert rank.traces == ["trace-0003-0004.json.gz"]


def _environment_with_torch_only(base: Path) -> str:
    """A virtual environment that sees torch and its own requirements through links, no more."""
    home = base / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    for name in ("torch", "torchgen", "functorch", "typing_extensions.py", "sympy", "mpmath"):
        _link(name, site)
    for name in ("networkx", "jinja2", "markupsafe", "fsspec", "filelock", "numpy", "numpy.libs"):
        _link(name, site)
    return str(home / "bin" / "python")


def _link(name: str, site: Path) -> None:
    source = Path(sysconfig.get_path("purelib")) / name
    if source.exists():
        (site / name).symlink_to(source)

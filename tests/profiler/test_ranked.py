"""Launchers that number ranks in ways of their own: mpirun, srun, horovodrun, forks."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from perfkit.trace.kinds import Kind
from perfkit.trace.run import load_rank, open_run
from tests.ports import free_port
from tests.profiler.launching import SCRIPTS, node, profile, ranks

pytestmark = pytest.mark.real

SCRIPT = str(SCRIPTS / "ranked.py")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
SRUN = """#!/bin/sh
# What srun gives its tasks, without Slurm: `srun -n 2 CMD`.
shift 2
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" & done
wait
"""
HOROVODRUN = """#!/bin/sh
# What horovodrun gives its ranks, without Horovod: `horovodrun -np 2 CMD`.
shift 2
for rank in 0 1; do HOROVOD_RANK=$rank HOROVOD_LOCAL_RANK=$rank HOROVOD_SIZE=2 "$@" & done
wait
"""


def _check(run: Path, *command: str, **environment: str) -> None:
    done = profile(run, *command, env=environment, windows=[[2, 3]])
    assert done.returncode == 0, done.stderr
    found = ranks(run)
    assert [rank.facts["rank"] for rank in found] == [0, 1]
    assert [rank.steps for rank in found] == [list(range(8))] * 2
    assert [rank.traces for rank in found] == [["trace-0002-0003.json.gz"]] * 2


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
def test_mpirun(tmp_path: Path) -> None:
    carried = [
        part
        for name in ("PYTHONPATH", "PERFKIT_RUN_DIR", "PERFKIT_CAPTURE")
        for part in ("-x", name)
    ]
    launcher = ("mpirun", "--oversubscribe", "-np", "2", *carried)
    _check(tmp_path / "run", *launcher, sys.executable, SCRIPT, "mpi", str(free_port()), **AS_ROOT)


def test_srun(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    command = (str(srun), "-n", "2", sys.executable, SCRIPT, "slurm", str(free_port()))
    _check(tmp_path / "run", *command)


def test_horovodrun(tmp_path: Path) -> None:
    """Its optimizer is a subclass of the program's own, made at run time: one step, not two."""
    launcher = tmp_path / "horovodrun"
    launcher.write_text(HOROVODRUN)
    launcher.chmod(0o755)
    command = (str(launcher), "-np", "2", sys.executable, str(SCRIPTS / "hvd.py"))
    _check(tmp_path / "run", *command, PYTHONPATH=str(SCRIPTS / "horovod_stub"))
    assert node(tmp_path / "run")["launcher"] == "horovodrun"
    run = open_run([tmp_path / "run"])
    for rank, record in zip(ranks(tmp_path / "run"), run.ranks, strict=True):
        assert [line["mb"] for line in rank.records("step")] == [2] * 8
        assert (rank.facts["world_size"], rank.facts["anchor"]) == (2, "SGD")
        assert rank.facts["local_rank"] == rank.facts["rank"]
        trace = load_rank(record, cache=None)
        assert trace.collectives.op == ("all_reduce",) * 12  # four parameters, three steps
        assert (trace.events.kind[trace.collectives.event] == Kind.COMM_HOST).all()


@pytest.mark.parametrize("how", ["fork", "forkserver"])
def test_multiprocessing(tmp_path: Path, how: str) -> None:
    _check(tmp_path / "run", sys.executable, SCRIPT, how, str(free_port()))

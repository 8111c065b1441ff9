"""Frameworks that start the ranks or step the optimizer: two micro-batches are one step."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.profiler.launching import (
    TORCHRUN,
    clean_environment,
    parent_command,
    plain,
    profile,
    ranks,
)

pytestmark = [pytest.mark.real, pytest.mark.frameworks]

SCRIPTS = Path(__file__).parent / "scripts"
BIN = Path(sys.executable).parent
WINDOW = [[2, 3]]
LOOPBACK = {"RAY_AUTH_MODE": "disabled"}  # clusters of these tests, on 127.0.0.1
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def needs(*names: str) -> pytest.MarkDecorator:
    reason = "a training framework is not installed (make test-frameworks)"
    return pytest.mark.skipif(None in map(find_spec, names), reason=reason)


def check(run: Path, world_size: int, micro_batches: int = 2) -> None:
    found = ranks(run)
    assert [rank.facts["rank"] for rank in found] == list(range(world_size))
    for rank in found:
        assert rank.steps == list(range(8))
        assert {line["mb"] for line in rank.records("step")} == {micro_batches}
        assert rank.facts["step_source"] == "optimizer"
        assert rank.traces == ["trace-0002-0003.json.gz"]


def train(run: Path, *command: str, **environment: str) -> None:
    path = f"{BIN}:{clean_environment()['PATH']}"
    done = profile(run, *command, env={"PATH": path, **environment}, windows=WINDOW)
    assert done.returncode == 0, done.stderr


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(3)  # the node joins its own cluster a little later
            return
        time.sleep(0.5)
    raise TimeoutError(f"nothing listens on port {port}")


@needs("accelerate")
def test_accelerate_launch_of_one_process(tmp_path: Path) -> None:
    launch = ("accelerate", "launch", "--cpu", "--num_processes=1")
    train(tmp_path / "run", *launch, str(SCRIPTS / "accelerated.py"))
    check(tmp_path / "run", 1)


@needs("accelerate")
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
def test_accelerate_launch_of_two_processes(tmp_path: Path) -> None:
    """On CPU it starts several processes through mpirun only; without a host file it starts one."""
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n")
    launch = ("accelerate", "launch", "--cpu", "--num_processes=2", "--num_machines=1")
    place = (f"--mpirun_hostfile={hosts}", "--main_process_ip=127.0.0.1")
    port = f"--main_process_port={free_port()}"
    train(tmp_path / "run", *launch, *place, port, str(SCRIPTS / "accelerated.py"), **MPI)
    check(tmp_path / "run", 2)


@needs("deepspeed")
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_deepspeed_counts_a_step_at_the_accumulation_boundary(tmp_path: Path, stage: int) -> None:
    launch = ("deepspeed", "--num_accelerators=2", str(SCRIPTS / "zero.py"), f"--stage={stage}")
    train(tmp_path / "run", *launch, DS_ACCELERATOR="cpu")
    check(tmp_path / "run", 2)


@needs("transformers")
@needs("accelerate")
def test_trainer_of_hugging_face(tmp_path: Path) -> None:
    script = (str(SCRIPTS / "hf_trainer.py"), str(tmp_path / "out"))
    train(tmp_path / "run", *TORCHRUN, "--standalone", *script)
    check(tmp_path / "run", 2)


@needs("lightning")
def test_lightning_starts_its_second_rank_itself(tmp_path: Path) -> None:
    train(tmp_path / "run", sys.executable, str(SCRIPTS / "lit.py"))
    check(tmp_path / "run", 2)


@needs("ray", "pandas", "pyarrow", "tensorboardX")  # ray[train], not ray alone
def test_ray_train_on_a_cluster_of_its_own(tmp_path: Path) -> None:
    script = (str(SCRIPTS / "rayed.py"), "local", str(tmp_path / "storage"))
    train(tmp_path / "run", sys.executable, *script)
    check(tmp_path / "run", 2, micro_batches=1)


def port_for_ray() -> int:
    """A free port above those that Ray gives to its own workers."""
    return next(port for port in iter(free_port, None) if port >= 20_000)


@contextmanager
def cluster(folder: Path, *options: str) -> Iterator[int]:
    """A cluster that was started before and knows nothing of perfkit; its port."""
    environment = clean_environment(**LOOPBACK)
    port = port_for_ray()
    head = (str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=4")
    with (folder / "cluster.log").open("wb") as log:
        process = subprocess.Popen(
            [*head, "--node-ip-address=127.0.0.1", *options],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(60)


@needs("ray", "pandas", "pyarrow", "tensorboardX")  # ray[train], not ray alone
def test_ray_train_on_an_existing_cluster_unedited(tmp_path: Path) -> None:
    with cluster(tmp_path, "--include-dashboard=false") as port:
        script = (str(SCRIPTS / "rayed.py"), f"127.0.0.1:{port}", str(tmp_path / "storage"))
        train(tmp_path / "run", sys.executable, *script, **LOOPBACK)
    check(tmp_path / "run", 2, micro_batches=1)


@needs("ray", "pandas", "pyarrow", "tensorboardX", "aiohttp_cors")  # ray[train,default]
def test_perfkit_as_the_program_of_a_submitted_ray_job(tmp_path: Path) -> None:
    """The job sets PYTHONPATH for its workers, which Ray lets nobody else set then."""
    agent = port_for_ray()
    dashboard = (f"--dashboard-port={agent}", "--include-dashboard=true")
    command = (sys.executable, str(SCRIPTS / "rayed.py"), "auto", str(tmp_path / "storage"))
    with cluster(tmp_path, *dashboard):
        wait_for_port(agent)
        job = (str(BIN / "ray"), "job", "submit", f"--address=http://127.0.0.1:{agent}")
        variables = '{"env_vars": {"PYTHONPATH": "/own"}}'
        ours = parent_command(tmp_path / "run", command, windows=WINDOW)
        done = plain(*job, f"--runtime-env-json={variables}", "--", *ours, env=LOOPBACK)
    assert done.returncode == 0, done.stdout
    check(tmp_path / "run", 2, micro_batches=1)

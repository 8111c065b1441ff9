"""What Ray's workers on a cluster that was there before are given of our environment."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from perfkit.profiler.inrank import ray_env

OURS = {"PERFKIT_RUN_DIR": "/run", "PERFKIT_CAPTURE": "{}", "PYTHONPATH": "/boot:/own"}
PERFKITS = {name: OURS[name] for name in ray_env.CARRIED}


class Worker:
    """A stand-in for ray._private.worker whose init returns what it was called with."""

    def __init__(self) -> None:
        self.running: str | None = None  # the address of a cluster on this machine
        self.services = SimpleNamespace(find_bootstrap_address=lambda temp_dir: self.running)
        self.job: str | None = None  # of the environment, as init saw it

    def init(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.job = os.environ.get(ray_env.JOB)
        return args, kwargs


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    for name in ("RAY_ADDRESS", ray_env.JOB):
        monkeypatch.delenv(name, raising=False)
    module = Worker()
    ray_env.install(module)
    return module


@pytest.mark.parametrize("call", [{}, {"address": "local"}, {"num_cpus": 3}])
def test_a_cluster_of_its_own_inherits_the_environment(worker: Any, call: dict[str, Any]) -> None:
    assert worker.init(**call) == ((), call)


def test_an_existing_cluster_is_given_our_variables(worker: Any) -> None:
    assert worker.init("auto") == (("auto",), {"runtime_env": {"env_vars": OURS}})
    own = {"pip": ["x"], "env_vars": {"A": "1", "PYTHONPATH": "/theirs"}}
    _, given = worker.init(address="10.0.0.1:6379", runtime_env=own)
    together = {**OURS, "A": "1", "PYTHONPATH": "/boot:/theirs"}
    assert given["runtime_env"] == {"pip": ["x"], "env_vars": together}
    assert own["env_vars"] == {"A": "1", "PYTHONPATH": "/theirs"}


def test_a_cluster_that_ray_finds_by_itself_is_an_existing_one(worker: Any) -> None:
    worker.running = "10.0.0.1:6379"
    assert worker.init() == ((), {"runtime_env": {"env_vars": OURS}})
    assert worker.init("local") == (("local",), {})


def test_an_address_in_the_environment_counts(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert worker.init() == ((), {"runtime_env": {"env_vars": OURS}})
    assert worker.init(address="local") == ((), {"address": "local"})
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert worker.init() == ((), {})


@pytest.mark.parametrize(
    ("job", "own", "given", "job_seen"),
    [
        ({}, {}, OURS, {}),
        ({"A": "1"}, {"B": "2"}, {**OURS, "B": "2"}, {"A": "1"}),
        ({"PYTHONPATH": "/j"}, {}, PERFKITS, {"PYTHONPATH": "/boot:/j"}),
        ({}, {"PYTHONPATH": "/p"}, {**PERFKITS, "PYTHONPATH": "/boot:/p"}, {}),
        # An agreement of the two that carries perfkit already is left as it is.
        ({**PERFKITS, "PYTHONPATH": "/boot:/j"}, {}, {}, {**PERFKITS, "PYTHONPATH": "/boot:/j"}),
    ],
)
def test_a_submitted_job_and_its_program_never_set_the_same(
    worker: Any, monkeypatch: pytest.MonkeyPatch, job: Any, own: Any, given: Any, job_seen: Any
) -> None:
    """Ray raises where a variable is in both."""
    before = json.dumps({"runtime_env": {"pip": ["x"], "env_vars": job}, "metadata": {"a": "b"}})
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv(ray_env.JOB, before)
    _, called = worker.init(runtime_env={"env_vars": own})
    assert called["runtime_env"]["env_vars"] == given
    seen = json.loads(worker.job)
    assert seen == {"runtime_env": {"pip": ["x"], "env_vars": job_seen}, "metadata": {"a": "b"}}
    assert not set(given) & set(job_seen)
    assert os.environ[ray_env.JOB] == before


def test_a_runtime_env_of_an_unknown_kind_is_left_alone(worker: Any) -> None:
    assert worker.init("auto", runtime_env=7) == (("auto",), {"runtime_env": 7})

"""What Ray's workers on a cluster that was there before are given of our environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from perfkit.profiler.inrank import ray_env

OURS = {"PERFKIT_RUN_DIR": "/run", "PERFKIT_CAPTURE": "{}", "PYTHONPATH": "/boot:/own"}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for ray._private.worker whose init returns what it was called with."""
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    module = SimpleNamespace(init=lambda *args, **kwargs: (args, kwargs))
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


def test_an_address_in_the_environment_counts(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert worker.init() == ((), {"runtime_env": {"env_vars": OURS}})
    assert worker.init(address="local") == ((), {"address": "local"})


def test_a_runtime_env_of_an_unknown_kind_is_left_alone(worker: Any) -> None:
    assert worker.init("auto", runtime_env=7) == (("auto",), {"runtime_env": 7})

"""Ray: workers of a cluster that was there before do not inherit the driver's environment.

A `ray.init` that joins one is given our variables as part of its `runtime_env`, as the program
itself could. Paths must exist on the cluster's nodes. A cluster that the program starts inherits
them. Ray refuses a variable that both a submitted job and its program set, so that PYTHONPATH is
changed where it is set already.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Callable

CARRIED = ("PERFKIT_RUN_DIR", "PERFKIT_CAPTURE")
PATH = "PYTHONPATH"
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What `ray job submit` hands its program: {"runtime_env": {"env_vars": ...}, ...}."""


def install(worker: Any) -> None:
    """Wrap `init` of ray._private.worker, before `ray` takes it from there."""
    worker.init = _init(worker.init, getattr(worker, "services", None))


def _init(original: Callable[..., Any], services: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        address = args[0] if args else kwargs.get("address")
        job = os.environ.get(JOB)
        with suppress(Exception):  # an unknown kind of runtime_env: the program's own stands
            if joins(address, services, kwargs.get("_temp_dir")):
                own, job = with_ours(kwargs.get("runtime_env"), job)
                kwargs = {**kwargs, "runtime_env": own}
        with _environment(job):
            return original(*args, **kwargs)

    return init


def joins(address: Any, services: Any, temp_dir: Any) -> bool:
    """Whether `ray.init(address)` joins a cluster, and does not start one of its own."""
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
    if address is not None:
        return bool(address != "local")
    return services is not None and services.find_bootstrap_address(temp_dir) is not None


def with_ours(runtime_env: Any, job: str | None) -> tuple[dict[str, Any], str | None]:
    """The program's runtime_env with our variables added, and the job's; what they set is kept."""
    own = dict(runtime_env or {})
    theirs = dict(own.get("env_vars") or {})
    ours = {name: os.environ[name] for name in CARRIED if name in os.environ}
    path = os.environ.get(PATH, "")
    boot = path.split(os.pathsep)[0]
    submitted = json.loads(job) if job else {}
    of_job = (submitted.get("runtime_env") or {}).get("env_vars") or {}
    if PATH in theirs:
        theirs[PATH] = _before(boot, theirs[PATH])
    elif PATH in of_job:
        of_job[PATH] = _before(boot, of_job[PATH])
        job = json.dumps(submitted)
    else:
        ours[PATH] = path
    added: Mapping[str, str] = {k: v for k, v in ours.items() if k not in of_job}
    return {**own, "env_vars": {**added, **theirs}}, job


def _before(boot: str, path: str) -> str:
    return path if boot in path.split(os.pathsep) else os.pathsep.join((boot, path))


@contextmanager
def _environment(job: str | None) -> Iterator[None]:
    """While Ray reads it, the job's configuration is `job`."""
    before = os.environ.get(JOB)
    if job == before or job is None:
        yield
        return
    os.environ[JOB] = job
    try:
        yield
    finally:
        if before is not None:
            os.environ[JOB] = before

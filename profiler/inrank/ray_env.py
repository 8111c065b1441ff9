"""Ray: workers of a cluster that was there before do not inherit the driver's environment.

`ray.init(address=...)` is given our variables as part of its `runtime_env`, as the program itself
could. Paths must exist on the cluster's nodes. A cluster that the program starts inherits them.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from typing import Any, Callable

CARRIED = ("PERFKIT_RUN_DIR", "PERFKIT_CAPTURE")


def install(worker: Any) -> None:
    """Wrap `init` of ray._private.worker, before `ray` takes it from there."""
    worker.init = _init(worker.init)


def _init(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        address = args[0] if args else kwargs.get("address")
        if (address or os.environ.get("RAY_ADDRESS", "local")) != "local":
            with suppress(Exception):  # an unknown kind of runtime_env: the program's own stands
                kwargs = {**kwargs, "runtime_env": with_ours(kwargs.get("runtime_env"))}
        return original(*args, **kwargs)

    return init


def with_ours(runtime_env: Any) -> Any:
    """The program's runtime_env with our variables added; what it sets itself is kept."""
    own = dict(runtime_env or {})
    theirs = dict(own.get("env_vars") or {})
    ours = {name: os.environ[name] for name in CARRIED if name in os.environ}
    ours["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    boot = ours["PYTHONPATH"].split(os.pathsep)[0]
    if "PYTHONPATH" in theirs and boot not in theirs["PYTHONPATH"].split(os.pathsep):
        theirs["PYTHONPATH"] = os.pathsep.join((boot, theirs["PYTHONPATH"]))
    return {**own, "env_vars": {**ours, **theirs}}

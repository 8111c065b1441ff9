"""What a script does by itself, as far as recipes must know: seen once, recorded once.

Always on where recipes are asked for or a baseline is measured; changes nothing.
"""

from __future__ import annotations

import functools
import pickle
import random
import sys
from typing import Any, Callable

import torch

from . import frameworks
from .applying import patch, sharded
from .steps import steps

FETCHES = 1000  # of the loader that are compared
PROBED_STEPS = (1, 3)


class Seen:
    """What has been said so far, so that each thing is said once."""

    def __init__(self, record: Callable[..., None]) -> None:
        self.record = record
        self.known: dict[str, Any] = {}
        self.fetches = 0

    def say(self, what: str, value: Any = True) -> None:
        """Record an observation if it is new."""
        if self.known.get(what) != value:
            self.known[what] = value
            self.record("seen", what=what, value=value)


def install(record: Callable[..., None]) -> Seen:
    """Watch autocast, scalers, no_sync, comm hooks, optimizer state, loaders' random numbers."""
    seen = Seen(record)
    steps.install()
    steps.after.append(functools.partial(_after_step, seen))
    _notice(seen, torch.autocast, "__enter__", "autocast", lambda cast: cast._enabled)
    ddp = torch.nn.parallel.DistributedDataParallel
    _notice(seen, ddp, "no_sync", "no_sync")
    _notice(seen, ddp, "register_comm_hook", "comm_hook")
    _notice(seen, torch.optim.Optimizer, "state_dict", "optimizer_state_saved")
    scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
    if scaler is not None:
        _notice(seen, scaler, "scale", "grad_scaler", lambda scaler: scaler.is_enabled())
    from torch.utils.data._utils import fetch

    patch(fetch._MapDatasetFetcher, "fetch", lambda original: _fetch(seen, original))
    return seen


def _notice(
    seen: Seen, owner: Any, name: str, what: str, counts: Callable[[Any], bool] = lambda _: True
) -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def noticed(*args: Any, **kwargs: Any) -> Any:
            own = getattr(args[0], "_perfkit_ours", False)
            if not torch.compiler.is_compiling() and not own and counts(args[0]):
                seen.say(what)
            return original(*args, **kwargs)

        return noticed

    patch(owner, name, wrap)


def _after_step(seen: Seen, optimizer: Any) -> None:
    if steps.done not in PROBED_STEPS:
        return
    framework = frameworks.in_use()
    if framework:
        seen.say("framework", framework)
    parameters = steps.parameters()
    if sharded(parameters):
        seen.say("sharded_parameters")
    seen.say("parameter_tensors", len(parameters))
    if any(p.dim() == 4 for p in parameters):
        seen.say("convolutions")
    if "torch.distributed.pipelining" in sys.modules:
        seen.say("pipelining")


def _random_states() -> dict[str, Any]:
    """The global generators as they stand; numpy's only where the script has imported it.

    Of numpy's the position counts as much as the keys, which change in every 624th draw only.
    """
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "random": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy"] = pickle.dumps(numpy.random.get_state(legacy=False))
    return states


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether none was drawn from; one that has only now been imported has no earlier state."""
    return torch.equal(before.pop("torch"), after["torch"]) and all(
        after[name] == state for name, state in before.items()
    )


def _fetch(seen: Seen, original: Callable[..., Any]) -> Callable[..., Any]:
    """Compare the global generators around the first fetches of the main process."""
    from torch.utils.data import get_worker_info

    def fetch(self: Any, indices: Any) -> Any:
        if seen.fetches >= FETCHES or get_worker_info() is not None:
            return original(self, indices)
        seen.fetches += 1
        before = _random_states()
        batch = original(self, indices)
        drew = not _same(before, _random_states())
        seen.say("loader_draws_global_rng", drew or bool(seen.known.get("loader_draws_global_rng")))
        return batch

    return fetch

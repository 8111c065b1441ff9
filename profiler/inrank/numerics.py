"""What a trial of `perfkit optimize` records of its numbers: losses, gradients, parameters.

Only where the parent asks for it (PERFKIT_NUMERICS). All trials then start from the same seeds,
which a program's own `manual_seed` overrides, and pay the same: the loss is copied on its device,
the gradients' norm is computed every tenth step, and the host waits for the device only then.
Steps that are timed are told from those by their number.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from . import activation
from .patching import patch
from .rank import Rank

VARIABLE = "PERFKIT_NUMERICS"  # the seed
FILE = "numerics.jsonl"
EVERY = 10  # steps between two norms
SAMPLE = 2048  # elements of all parameters together


class Record:
    """Losses that are not written yet, and whose parameters are watched."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, Any]] = []
        self.optimizer: Any = None  # kept alive: at exit the program's own names are gone
        self.lines: list[dict[str, Any]] = []
        self.rank: Rank | None = None


record = Record()


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Seed, and watch backward passes and optimizer steps, where the parent asks for it.

    Last of all hooks, so that the loss is seen as the program wrote it.
    """
    seed = os.environ.get(VARIABLE)
    if seed is None:
        return
    own = int(seed) + int(os.environ.get("RANK", "0"))
    random.seed(own)
    torch.manual_seed(own)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(own % 2**32)
    else:
        waiting["numpy"] = lambda module: module.random.seed(own % 2**32)
    patch(torch.Tensor, "backward", _noting_loss)
    register_optimizer_step_pre_hook(_before_step)


def _noting_loss(original: Callable[..., Any]) -> Callable[..., Any]:
    def backward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and self.numel() == 1:
            rank = activation.this.rank
            step = rank.step if rank is not None else 0
            record.losses.append((step, self.detach().clone()))
        return original(self, *args, **kwargs)

    return backward


def _before_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    try:
        if record.optimizer is None:
            record.optimizer = optimizer
        if optimizer is not record.optimizer:
            return
        step = activation.this.rank.step if activation.this.rank is not None else 0
        if step % EVERY == 0:
            _look_at_gradients(step)
    except Exception as error:  # a failure of ours must not end the training
        activation.warn(f"the numbers of a step were not recorded: {error!r}")


def _look_at_gradients(step: int) -> None:
    gradients = [_local(p.grad) for p in _parameters() if p.grad is not None]
    if not gradients:
        return
    total = sum(float(g.detach().double().pow(2).sum()) for g in gradients)
    norm = math.sqrt(total) if total >= 0 else math.nan
    line: dict[str, Any] = {"k": "gradient", "i": step, "norm": _finite(norm)}
    if step == 0:
        line["sample"] = _sample(gradients)
    record.lines.append(line)
    _watch_end()
    flush()


def _watch_end() -> None:
    rank = activation.this.rank
    if rank is not None and record.rank is None:
        record.rank = rank
        rank.at_end.append(_last)


def _last() -> None:
    """The parameters at the end, and the most memory that was used."""
    line: dict[str, Any] = {"k": "end", "sample": _sample([_local(p) for p in _parameters()])}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        line["peak_bytes"] = torch.cuda.max_memory_allocated()
    record.lines.append(line)
    flush()


def flush() -> None:
    """Write what is known so far."""
    rank = record.rank
    if rank is None:
        return
    losses = [{"k": "loss", "i": step, "v": _finite(float(loss))} for step, loss in record.losses]
    text = "".join(json.dumps(line) + "\n" for line in losses + record.lines)
    record.losses, record.lines = [], []
    with open(os.path.join(rank.folder, FILE), "a") as stream:
        stream.write(text)


def _parameters() -> list[Any]:
    if record.optimizer is None:
        return []
    return [p for group in record.optimizer.param_groups for p in group["params"]]


def _local(tensor: Any) -> Any:
    """The part of a sharded tensor that lies here."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _sample(tensors: list[Any]) -> list[float | None]:
    """At most SAMPLE elements, spread evenly over all tensors, the same ones in every run."""
    total = sum(t.numel() for t in tensors)
    stride = max(1, -(-total // SAMPLE))
    found: list[float | None] = []
    first = 0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        found += [_finite(x) for x in flat[first::stride].double().tolist()]
        first = (first - flat.numel()) % stride
    return found[:SAMPLE]


def _finite(value: float) -> float | None:
    """JSON knows neither infinity nor NaN."""
    return value if math.isfinite(value) else None

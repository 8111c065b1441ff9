"""How long the training thread waits for its batches, and how many samples they hold."""

from __future__ import annotations

import time
from typing import Any, Callable

import torch

from . import activation, ranges
from .patching import patch
from .tally import tally

MAX_DEPTH = 3  # of containers inside a batch


def _timed(original: Callable[..., Any], *, is_fetch: bool) -> Callable[..., Any]:
    def waiting(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not tally.start_ns:
            tally.started()
        if tally.depth or not tally.on_training_thread():
            return original(self, *args, **kwargs)
        tally.depth += 1
        mark = ranges.begin("perfkit::input_wait")
        begun = time.perf_counter_ns()
        try:
            result = original(self, *args, **kwargs)
        finally:
            tally.input_ns += time.perf_counter_ns() - begun
            tally.depth -= 1
            ranges.end(mark)
        if is_fetch:
            count(result)
        return result

    return waiting


def _fetch(original: Callable[..., Any]) -> Callable[..., Any]:
    return _timed(original, is_fetch=True)


def _start_workers(original: Callable[..., Any]) -> Callable[..., Any]:
    timed = _timed(original, is_fetch=False)

    def start(self: Any) -> Any:
        iterator = timed(self)
        describe(self)
        return iterator

    return start


def count(batch: Any) -> None:
    """Note the batch that has just arrived; one fetched without gradients is for evaluation."""
    try:
        if not torch.is_grad_enabled():
            tally.has_eval = True
        else:
            tally.batch_fetched(*size_of(batch))
    except Exception as error:  # a failure of ours must not end the training
        activation.warn(f"a batch was not counted: {error!r}")


def size_of(batch: Any, depth: int = 0) -> tuple[int | None, int | None]:
    """Samples and tokens in a batch, from its first tensor.

    Samples are the leading dimension. Tokens are the elements of a 2-D integer tensor, the form
    in which language models are fed; None where the tensor is anything else.
    """
    if isinstance(batch, torch.Tensor):
        if batch.dim() == 0:
            return None, None
        integer = not (batch.is_floating_point() or batch.is_complex() or batch.dtype == torch.bool)
        return batch.shape[0], batch.numel() if integer and batch.dim() == 2 else None
    if depth < MAX_DEPTH:
        values = batch.values() if hasattr(batch, "values") else batch
        if isinstance(batch, (tuple, list)) or hasattr(batch, "values"):
            for value in values:
                size = size_of(value, depth + 1)
                if size[0] is not None:
                    return size
    return None, None


def describe(loader: Any) -> None:
    """Record the settings of the first loader that is iterated over for training."""
    rank = activation.this.rank
    if rank is None or "loader" in rank.facts.known or not torch.is_grad_enabled():
        return
    from . import facts

    try:
        rank.learn(loader=facts.loader_facts(loader))
    except Exception as error:  # a failure of ours must not end the training
        activation.warn(f"the loader was not described: {error!r}")


def install() -> None:
    """Patch the classes, so that every name that a program has for them is patched."""
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    patch(DataLoader, "__iter__", _start_workers)
    patch(_BaseDataLoaderIter, "__next__", _fetch)

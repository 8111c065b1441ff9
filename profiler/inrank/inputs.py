"""How long the training thread waits for its batches, and how many samples they hold."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

import torch

from . import activation, ranges
from .optimizers import anchor
from .patching import patch
from .tally import tally

MAX_DEPTH = 3  # of containers inside a batch
_early: list[dict[str, Any]] = []
"""The first loader where no rank was known yet: a lone process becomes one with its first step."""
INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8})


def _timed(original: Callable[..., Any], after: Callable[[Any, Any], None]) -> Callable[..., Any]:
    """`original(iterator or loader)`, timed; `after(self, result)` looks at what it returned."""

    def waiting(self: Any) -> Any:
        if not tally.start_ns:
            tally.started()
        if tally.depth or get_ident() != tally.thread:
            return original(self)
        tally.depth = 1
        mark = ranges.begin("perfkit::input_wait") if ranges.state.recording else None
        begun = perf_counter_ns()
        try:
            result = original(self)
        finally:
            tally.input_ns += perf_counter_ns() - begun
            tally.depth = 0
            if mark is not None:
                ranges.end(mark)
        try:
            after(self, result)
        except Exception as error:  # a failure of ours must not end the training
            activation.warn(f"a batch was not counted: {error!r}")
        return result

    return waiting


def _fetch(original: Callable[..., Any]) -> Callable[..., Any]:
    timed = _timed(original, _count)

    def fetch(self: Any) -> Any:
        if not anchor.calls and get_ident() == tally.thread and torch.is_grad_enabled():
            try:
                anchor.fetch_begins()
            except Exception as error:  # a failure of ours must not end the training
                activation.warn(f"a step was not recorded: {error!r}")
        return timed(self)

    return fetch


def _start_workers(original: Callable[..., Any]) -> Callable[..., Any]:
    return _timed(original, _describe)


def _count(iterator: Any, batch: Any) -> None:
    """Note the batch that has just arrived; one fetched without gradients is for evaluation."""
    if _early and activation.this.rank is not None:
        _learn(_early.pop())
    if not torch.is_grad_enabled():
        tally.has_eval = True
        return
    samples, tokens = size_of(batch)
    tally.fetched_samples += samples
    tally.fetched_tokens += tokens


def size_of(batch: Any, depth: int = 0) -> tuple[int, int]:
    """Samples and tokens in a batch, from its first tensor; 0 where it does not show.

    Samples are the leading dimension. Tokens are the elements of a 2-D integer tensor, the form
    in which language models are fed.
    """
    if isinstance(batch, (tuple, list)):
        values = batch
    elif isinstance(batch, torch.Tensor):
        dimensions = batch.dim()
        if dimensions == 0:
            return 0, 0
        has_tokens = dimensions == 2 and batch.dtype in INTEGERS
        return batch.size(0), batch.numel() if has_tokens else 0
    elif hasattr(batch, "values"):
        values = batch.values()
    else:
        return 0, 0
    for value in values if depth < MAX_DEPTH else ():
        size = size_of(value, depth + 1)
        if size[0]:
            return size
    return 0, 0


def _describe(loader: Any, iterator: Any) -> None:
    """Record the settings of the first loader that is iterated over for training."""
    if not torch.is_grad_enabled():
        return
    from . import facts

    if activation.this.rank is not None:
        _learn(facts.loader_facts(loader))
    elif not _early:
        _early.append(facts.loader_facts(loader))


def _learn(described: dict[str, Any]) -> None:
    rank = activation.this.rank
    if rank is not None and "loader" not in rank.facts.known:
        rank.learn(loader=described)


def install() -> None:
    """Patch the classes, so that every name that a program has for them is patched."""
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    patch(DataLoader, "__iter__", _start_workers)
    patch(_BaseDataLoaderIter, "__next__", _fetch)

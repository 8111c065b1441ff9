"""`perfkit.step()` and `perfkit.region(name)`, as a process of a run sees them."""

from __future__ import annotations

import time
from threading import get_ident
from typing import Any

from . import activation, ranges
from .optimizers import anchor
from .tally import tally

INPUT_REGION = "data"
CHECKPOINT_REGION = "checkpoint"


def step() -> None:
    """End the running step here; from the first call on, optimizers end no steps any more."""
    try:
        rank = activation.activate("step")
        if rank is None:
            return
        anchor.explicit = True
        if rank.source == "optimizer":
            rank.source = "perfkit.step"
            rank.learn(step_source="perfkit.step")
            if not tally.backwards:  # the optimizer has just ended this very step
                return
        rank.boundary("perfkit.step")
    except Exception as error:  # a failure of ours must not end the training
        activation.warn(f"perfkit.step() failed: {error!r}")


class Region:
    """A named span of the user's: waiting for input, checkpointing, or anything else."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._mark: Any = None
        self._begun = 0

    def __enter__(self) -> Region:
        kind = {INPUT_REGION: "input_wait", CHECKPOINT_REGION: "checkpoint"}.get(self.name)
        tally.started()
        if kind and not tally.depth and get_ident() == tally.thread:
            tally.depth += 1
            self._begun = time.perf_counter_ns()
        self._mark = ranges.begin(f"perfkit::{kind or self.name}")
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        ranges.end(self._mark)
        if self._begun:
            took, self._begun = time.perf_counter_ns() - self._begun, 0
            tally.depth -= 1
            if self.name == INPUT_REGION:
                tally.input_ns += took
            else:
                tally.checkpoint_ns += took
        return None

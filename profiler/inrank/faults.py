"""What `perfkit faults` asks of a rank: note the loss of every step, and die after one of them.

Nothing of this is installed in other runs. Reading a loss waits for the device: a run under
`perfkit faults` is a little slower for it on accelerators.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Callable

import torch

from .patching import patch

REQUEST = "PERFKIT_FAULT"


class Fault:
    """The request, and the losses of the running step: one a backward pass."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.rank: int | None = request.get("rank")
        self.step: int | None = request.get("step")
        self.losses: list[Any] = []
        self.depth = 0

    def noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.autograd.backward`, whose scalar root is remembered."""

        def noted_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(tensors, *args, **kwargs)
            self._note(tensors)
            self.depth += 1
            try:
                return original(tensors, *args, **kwargs)
            finally:
                self.depth -= 1

        return noted_backward

    def _note(self, tensors: Any) -> None:
        roots = tensors if isinstance(tensors, (tuple, list)) else (tensors,)
        if self.depth == 0 and len(roots) == 1 and getattr(roots[0], "numel", int)() == 1:
            self.losses.append(roots[0].detach().clone())

    def after_step(self, rank: Any, step: int) -> None:
        """Write the losses of `step`, and kill this process if it is the one."""
        values = [float(loss) for loss in self.losses]
        self.losses = []
        if values:
            rank.stream.record("loss", i=step, v=[repr(value) for value in values])
        if rank.who.attempt == 0 and rank.who.rank == self.rank and step == self.step:
            rank.stream.record("killed", i=step, u=time.time_ns())
            os.kill(os.getpid(), signal.SIGKILL)


def asked(environ: Mapping[str, str] = os.environ) -> Fault | None:
    """What is asked of this process; None outside `perfkit faults`."""
    text = environ.get(REQUEST)
    return None if text is None else Fault(json.loads(text))


fault = asked()


def install() -> None:
    """Patch backward passes, where asked to."""
    if fault is not None:
        patch(torch.autograd, "backward", fault.noting)


def attach(rank: Any) -> None:
    """At activation: have `rank` tell of its steps, and say when its process began."""
    if fault is not None:
        rank.after_step = fault.after_step
        rank.stream.record("process", u=_process_start_ns())


def _process_start_ns() -> int:
    """Unix time at which the kernel started this process, to a clock tick (10 ms)."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time_ns() - int(age * 1e9)

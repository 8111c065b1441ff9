"""Train without gradient communication, where `perfkit writeup --measure` asks for it.

That is the course's way to time communication: DDP's `no_sync` for the whole run. The ranks' models
drift apart, so such a run is for its step time only.
"""

from __future__ import annotations

import os
from typing import Any, Callable

import torch

from .patching import patch

REQUEST = "PERFKIT_NO_SYNC"


def _without_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.require_backward_grad_sync = False

    return construct


def install() -> None:
    """Patch DDP's construction, where asked to."""
    if os.environ.get(REQUEST) == "1":
        patch(torch.nn.parallel.DistributedDataParallel, "__init__", _without_sync)

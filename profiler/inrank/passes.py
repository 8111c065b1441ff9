"""Backward passes (micro-batches) and the signs that a step holds an evaluation."""

from __future__ import annotations

import torch

from . import traced
from .patching import patch


def install() -> None:
    """Patch backward passes, mode switches and DDP's forward."""
    patch(torch.autograd, "backward", traced.backward)
    patch(torch.nn.Module, "train", traced.module_train)
    patch(torch.nn.parallel.DistributedDataParallel, "forward", traced.ddp_forward)

"""The window of a rank that runs under Nsight Systems: NVTX ranges instead of a Kineto trace.

Nsight and Kineto's CUDA activity both need CUPTI and must not run together. One rank a node opens
and closes nsys's capture range, which is the node's; every rank names its operators and its steps.
"""

from __future__ import annotations

from typing import Any

import torch


class NsightProfile:
    """Stands where torch's profiler stands; `leader`: this rank opens and closes the range."""

    def __init__(self, leader: bool) -> None:
        self.leader = leader
        self._ranges: Any = None

    def start(self) -> None:
        """Open the capture range, then name operators from here on."""
        if self.leader:
            check(torch.cuda.cudart().cudaProfilerStart())
        self._ranges = torch.autograd.profiler.emit_nvtx(record_shapes=True)
        self._ranges.__enter__()

    def stop(self) -> None:
        """Name no more operators, then close the capture range."""
        self._ranges.__exit__(None, None, None)
        if self.leader:
            check(torch.cuda.cudart().cudaProfilerStop())


def check(status: Any) -> None:
    """Raise RuntimeError if a call of the CUDA runtime failed."""
    if int(status) != 0:
        raise RuntimeError(f"the CUDA runtime said {int(status)}")

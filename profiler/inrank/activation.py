"""When a process becomes a rank: on evidence, never by guessing at its role.

torchrun's agent, fork servers, loader workers and compile workers import torch too; none of them
initialises a process group, builds a DDP or steps an optimizer, so none ever opens a folder.
"""

from __future__ import annotations

import threading

from . import capture, faults, finish
from .rank import Rank


class Process:
    """What this process has become."""

    def __init__(self) -> None:
        self.rank: Rank | None = None
        self.decided = False  # the evidence has been seen; it is not looked at twice
        self.lock = threading.Lock()


this = Process()


def activate(evidence: str) -> Rank | None:
    """The rank that this process is from now on; None where it cannot be captured.

    `evidence` is one of init_process_group, ddp, optimizer, step (docs/run-folder.md).
    """
    if this.decided:
        return this.rank
    with this.lock:
        if this.decided:
            return this.rank
        this.decided = True
        try:
            request = capture.read()
            if request is not None:
                rank = Rank(request, evidence)
                this.rank = rank
                finish.watch(rank)
                faults.attach(rank)
                rank.open()
        except Exception as error:  # a failure of ours must not end the training
            capture.complain(f"a rank was not captured: {error!r}")
    return this.rank


def forget() -> None:
    """Become an ordinary process again: in the child after a fork."""
    this.rank, this.decided, this.lock = None, False, threading.Lock()


def warn(text: str) -> None:
    """Record a failure of ours; without a rank there is nobody to tell."""
    if this.rank is not None:
        this.rank.warn(text)

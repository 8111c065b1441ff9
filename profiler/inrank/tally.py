"""What this process has done since its last step boundary.

One object a process, filled by the hooks whether or not the process ever becomes a rank: a few
integers. The boundary turns it into a line of `steps.jsonl` and starts it afresh.
"""

from __future__ import annotations

import threading
import time

MIN_GC_NS = 50_000  # a shorter collection moves no step and would only lengthen the line


class Tally:
    """Counters of the running step; spans are (start, duration) in time.perf_counter_ns."""

    __slots__ = (
        "backward_depth",
        "backwards",
        "checkpoint_ns",
        "compile",
        "depth",
        "eval_candidate",
        "fetched_samples",
        "fetched_tokens",
        "gc",
        "has_eval",
        "input_ns",
        "mode_eval",
        "samples",
        "start_ns",
        "switch_depth",
        "thread",
        "tokens",
    )

    def __init__(self) -> None:
        self.thread = threading.get_ident()  # the thread that trains
        self.mode_eval = False  # the last module switched was switched to eval mode
        self.depth = 0  # input or checkpoint calls that are open on the training thread
        self.backward_depth = 0  # backward passes that are open
        self.switch_depth = 0  # Module.train calls that are open
        self.begin(0)

    def begin(self, start_ns: int) -> None:
        """Start a new step at `start_ns`; 0: nothing of the first step has happened yet."""
        self.start_ns = start_ns
        self.input_ns = self.checkpoint_ns = self.backwards = 0
        self.samples = self.tokens = 0
        self.fetched_samples = self.fetched_tokens = 0  # since the last backward pass
        self.has_eval = False
        self.eval_candidate = False  # switched to eval mode; an own backward would acquit it
        self.gc: list[tuple[int, int]] = []
        self.compile: list[tuple[int, int]] = []

    def started(self) -> None:
        """A first fetch or forward: step 0 starts here."""
        if not self.start_ns:
            self.thread = threading.get_ident()
            self.begin(time.perf_counter_ns())

    def backward_begins(self) -> None:
        """A backward pass: what was fetched before was for training."""
        if not self.start_ns:
            self.started()
        if self.mode_eval:
            self.eval_candidate = False  # trains in eval mode, as frozen batch norm does
        elif self.eval_candidate:
            self.has_eval, self.eval_candidate = True, False
        self.backwards += 1
        self.commit_fetched()

    def commit_fetched(self) -> None:
        """Count the fetched batches as trained on."""
        self.samples += self.fetched_samples
        self.tokens += self.fetched_tokens
        self.fetched_samples = self.fetched_tokens = 0

    def module_switched(self, training: bool) -> None:
        """The user called `.train()` or `.eval()` on a module."""
        if training and self.eval_candidate:
            self.has_eval, self.eval_candidate = True, False
        elif not training:
            self.eval_candidate = True
        self.mode_eval = not training


tally = Tally()

"""What the launching parent asked every process of the run to capture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

RUN_DIR = "PERFKIT_RUN_DIR"
REQUEST = "PERFKIT_CAPTURE"


@dataclass(frozen=True)
class Capture:
    """The request of one `perfkit profile`, as it travels in the environment."""

    run_dir: str
    run_id: str
    parent_node: str  # NODE of the launching parent's nodes/NODE/run.json
    windows: tuple[tuple[int, int], ...]  # first and last step, both included; sorted, disjoint
    trace_ranks: tuple[int, ...] | None  # None: all ranks
    with_stack: bool
    stop_after: int | None = None  # steps after which a trial ends; None: as the program likes

    def environment(self) -> dict[str, str]:
        """The variables that `read` turns into this request again."""
        request = {
            "run_id": self.run_id,
            "parent_node": self.parent_node,
            "windows": self.windows,
            "trace_ranks": self.trace_ranks,
            "with_stack": self.with_stack,
            "stop_after": self.stop_after,
        }
        return {RUN_DIR: self.run_dir, REQUEST: json.dumps(request, separators=(",", ":"))}

    def windows_of(self, rank: int) -> tuple[tuple[int, int], ...]:
        """The windows in which this rank records a trace."""
        return self.windows if self.traces(rank) else ()

    def traces(self, rank: int) -> bool:
        """Whether this rank records traces at all."""
        return self.trace_ranks is None or rank in self.trace_ranks


def complain(text: str) -> None:
    """Leave a line for the launching parent, where a process has no record of its own."""
    try:
        with open(os.path.join(os.environ[RUN_DIR], "boot-errors.log"), "a") as log:
            log.write(f"pid {os.getpid()}: {text}\n")
    except (OSError, KeyError):
        pass


def read(environ: Mapping[str, str] = os.environ) -> Capture | None:
    """The request in `environ`; None outside a run."""
    if RUN_DIR not in environ or REQUEST not in environ:
        return None
    request = json.loads(environ[REQUEST])
    ranks = request["trace_ranks"]
    return Capture(
        run_dir=environ[RUN_DIR],
        run_id=request["run_id"],
        parent_node=request["parent_node"],
        windows=tuple((first, last) for first, last in request["windows"]),
        trace_ranks=None if ranks is None else tuple(ranks),
        with_stack=request["with_stack"],
        stop_after=request.get("stop_after"),
    )

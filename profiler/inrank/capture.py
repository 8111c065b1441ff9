"""What the launching parent asked every process of the run to capture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

RUN_DIR = "PERFKIT_RUN_DIR"
REQUEST = "PERFKIT_CAPTURE"
ALL, ONE_PER_NODE = "all", "one-per-node"
TRACED_BY_DEFAULT = 64  # a larger job: one rank a node, the first and the last

Spec = Union[str, tuple[int, ...], None]  # ALL, ONE_PER_NODE, ranks; None: by the job's size


@dataclass(frozen=True)
class Detail:
    """What a window records beside the operators and their shapes."""

    with_stack: bool = False  # Python stacks and the names of modules
    modules: bool = False  # a range around every call of an nn.Module
    memory: bool = False  # every allocation; and memory in every step line
    nsys: bool = False  # on CUDA: NVTX ranges for nsys, no Kineto
    max_bytes: int | None = None  # of traces a rank may write, as written; None: no limit


@dataclass(frozen=True)
class Capture:
    """The request of one `perfkit profile`, as it travels in the environment."""

    run_dir: str
    run_id: str
    parent_node: str  # NODE of the launching parent's nodes/NODE/run.json
    windows: tuple[tuple[int, int], ...]  # first and last step, both included; sorted, disjoint
    trace_ranks: Spec = None
    detail: Detail = field(default_factory=Detail)
    stream_dir: str | None = None  # local disk for streams; None: the run folder itself is local
    stop_after: int | None = None  # steps after which a trial ends; None: as the program likes

    def environment(self) -> dict[str, str]:
        """The variables that `read` turns into this request again."""
        request = {
            "run_id": self.run_id,
            "parent_node": self.parent_node,
            "windows": self.windows,
            "trace_ranks": self.trace_ranks,
            "detail": vars(self.detail),
            "stream_dir": self.stream_dir,
            "stop_after": self.stop_after,
        }
        return {RUN_DIR: self.run_dir, REQUEST: json.dumps(request, separators=(",", ":"))}

    def traces(self, rank: int, world_size: int, local_rank: int | None) -> bool:
        """Whether this rank records traces.

        One that does not know its place on its node is not the node's first, rank 0 excepted.
        """
        if self.trace_ranks is None:
            if world_size <= TRACED_BY_DEFAULT or rank == world_size - 1:
                return True
        elif self.trace_ranks == ALL:
            return True
        elif self.trace_ranks != ONE_PER_NODE:
            return rank in self.trace_ranks
        return local_rank == 0 or rank == 0


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
    spec = tuple(ranks) if isinstance(ranks, list) else ranks
    return Capture(
        run_dir=environ[RUN_DIR],
        run_id=request["run_id"],
        parent_node=request["parent_node"],
        windows=tuple((first, last) for first, last in request["windows"]),
        trace_ranks=spec,
        detail=Detail(**request["detail"]),
        stream_dir=request.get("stream_dir"),
        stop_after=request.get("stop_after"),
    )

"""perfkit: say why a distributed PyTorch step takes as long as it does, and what to fix.

In a training script (both are free no-ops outside `perfkit profile`):

    perfkit.step()                        end a step here, where no optimizer ends it
    with perfkit.region("data"): ...      say what code is doing: "data", "checkpoint", or a name

On a recorded run:

    run = perfkit.open_run("perfkit-runs/...")
    analysis = perfkit.analyze(run)             shown with its verdict and budget in a notebook

Importing this package imports the standard library only.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.version import __version__

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis
    from perfkit.trace.model import Run

__all__ = ["__version__", "analyze", "open_run", "region", "step"]

_AGENT = "_perfkit_inrank"  # the module that capture loads into a process of a run
_NOTHING: AbstractContextManager[None] = nullcontext()


def step() -> None:
    """End the running step here; from the first call on, optimizers end no steps any more.

    For training loops without a `torch.optim` optimizer. Does nothing outside a captured run.
    """
    agent = sys.modules.get(_AGENT)
    if agent is not None:
        agent.step()


def region(name: str) -> AbstractContextManager[object]:
    """Name what the enclosed code is doing.

    "data" counts as waiting for input and "checkpoint" as checkpointing; any other name becomes a
    range in the trace. Does nothing outside a captured run.
    """
    agent = sys.modules.get(_AGENT)
    if agent is None:
        return _NOTHING
    named: AbstractContextManager[object] = agent.region(name)
    return named


def open_run(*paths: Path | str) -> Run:
    """Open a run folder, several node folders of one run, or any Kineto traces.

    Raises InputError where the paths hold nothing that can be used.
    """
    from perfkit.trace import run

    return run.open_run(paths)


def analyze(run: Run, *, jobs: int = 1) -> Analysis:
    """Say what bounds a step of `run`: the content of analysis.json, typed.

    `jobs`: ranks that are read at the same time; each costs memory.
    """
    from perfkit.analyzers import analysis
    from perfkit.trace.run import cache_folder, load_rank

    if "IPython" in sys.modules:
        from perfkit.report import notebook

        notebook.register()
    return analysis.analyze(run, partial(load_rank, cache=cache_folder(run)), jobs=jobs)

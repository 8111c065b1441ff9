"""Recipes that the parent asked for: loads their in-rank parts, keeps what they did.

The request travels in PERFKIT_RECIPES (recipes/activation.py). The parts lie in another folder,
which the request names, and are loaded as the package `_perfkit_recipes`; they are handed `record`
and know nothing else of this package. What they say goes to recipes.jsonl in the rank's folder.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from . import activation, capture
from .files import Stream
from .recipe_request import asked

FILE = "recipes.jsonl"
PACKAGE = "_perfkit_recipes"
MOST_RECORDS = 1000


class Log:
    """What recipes say; kept back until this process has become a rank."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self.stream: Stream | None = None
        self.records = 0

    def record(self, kind: str, **fields: Any) -> None:
        """Note one thing; never raises."""
        self.kept.append((kind, fields))
        try:
            self.flush()
        except Exception as error:  # a failure of ours must not end the training
            activation.warn(f"a recipe's record was lost: {error!r}")

    def flush(self, *_: Any) -> None:
        """Write what was kept back, if there is a folder to write it to."""
        rank = activation.this.rank
        if rank is None or not self.kept:
            return
        if self.stream is None:
            path = os.path.join(rank.folder, FILE)
            self.stream = Stream(path, run_id=rank.facts.known.get("run_id"), rank=rank.who.rank)
        kept, self.kept = self.kept, []
        for kind, fields in kept:
            self.records += 1
            if self.records <= MOST_RECORDS:
                self.stream.record(kind, **{"step": rank.step, **fields})


log = Log()


def install() -> None:
    """Load and install what was asked for; without a request this costs one look-up."""
    request = asked()
    if request is None:
        return
    try:
        package = _load(request["folder"])
        os.register_at_fork(after_in_child=_forget)
        register_optimizer_step_post_hook(log.flush)
        package.start(request, log.record)
    except Exception as error:  # a failure of ours must not end the training
        capture.complain(f"recipes were not applied: {error!r}")


def _load(folder: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no recipes in {folder}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return package


def _forget() -> None:
    log.__init__()  # type: ignore[misc]

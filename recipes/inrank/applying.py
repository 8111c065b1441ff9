"""A recipe at work in this rank: its parameters, its records, and how it patches torch."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from typing import Any, Callable

import torch

from . import frameworks

Call = Callable[..., Any]

OURS = os.path.dirname(os.path.abspath(__file__))
FOREIGN = (
    os.path.dirname(os.path.abspath(torch.__file__)),
    OURS,
    os.path.join(os.path.dirname(os.path.dirname(OURS)), "profiler", "inrank"),
    sysconfig.get_paths()["stdlib"],
)


class Applying:
    """One recipe in this process. `refused` once it has given up; it then changes nothing more.

    `settings`: what a framework offers instead, by the framework's name.
    """

    def __init__(
        self, name: str, values: dict[str, Any], record: Call, settings: Any = None
    ) -> None:
        self.name = name
        self.values = values
        self.settings: dict[str, str] = settings or {}
        self.variables: dict[str, str] = {}  # of the environment, as the parent set them
        self.refused = ""
        self._record = record
        self._said: set[str] = set()

    def applied(self, setting: str, old: Any, new: Any, place: Any = None, name: str = "") -> None:
        """Record that a setting has changed; the same change at the same place counts once."""
        key = f"{setting} {old} {new} {place}"
        if key not in self._said:
            self._said.add(key)
            where: dict[str, Any] = {} if place is None else {"place": list(place)}
            where.update({"name": name} if name else {})
            fields = {"recipe": self.name, "setting": setting, "old": old, "new": new}
            self._record("applied", **fields, **where)

    def framework(self) -> str:
        """Why a framework that runs the loop should do it instead; "" if none has a setting."""
        name = frameworks.in_use() if self.settings else ""
        if name not in self.settings:
            return ""
        return f"the script trains with {name}: its own setting is {self.settings[name]}"

    def refuse(self, reason: str) -> None:
        """Leave the rank as it is from now on, and say why."""
        if not self.refused:
            self.refused = reason
            self._record("refused", recipe=self.name, reason=reason)


def place() -> tuple[str, int] | None:
    """File and line of the innermost frame that is the script's: not torch's, not ours."""
    frame = _of_script(sys._getframe(1))
    return None if frame is None else (os.path.abspath(frame.f_code.co_filename), frame.f_lineno)


def called_as(thing: Any) -> str:
    """What the script's innermost frame calls an object: `model`, `self.model`; "" if nothing."""
    frame = _of_script(sys._getframe(1))
    if frame is None:
        return ""
    known = {**frame.f_globals, **frame.f_locals}
    plain = (name for name, value in known.items() if value is thing)
    inside = (
        f"{name}.{attribute}"
        for name, value in frame.f_locals.items()
        for attribute, held in _attributes(value)
        if held is thing
    )
    return next(plain, "") or next(inside, "")


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """An object's attributes, and the modules that a module holds."""
    try:
        held = vars(value)
    except TypeError:
        return []
    return [*held.items(), *(held.get("_modules") or {}).items()]


def _of_script(frame: Any) -> Any:
    while frame is not None:
        name = os.path.abspath(frame.f_code.co_filename)
        if not name.startswith(FOREIGN) and os.path.exists(name) and "site-packages" not in name:
            return frame
        frame = frame.f_back
    return None


def patch(owner: Any, name: str, wrap: Callable[[Call], Call]) -> bool:
    """Replace `owner.name` by `wrap(owner.name)`; False where there is no such attribute."""
    original = vars(owner).get(name)
    if original is None:
        return False
    static = isinstance(original, staticmethod)
    function = original.__func__ if static else original
    wrapper = functools.wraps(function)(wrap(function))
    setattr(owner, name, staticmethod(wrapper) if static else wrapper)
    return True


def sharded(parameters: Any) -> bool:
    """Whether any of these is a DTensor or one of FSDP's flat parameters."""
    names = {"DTensor", "FlatParameter"}
    return any(names & {c.__name__ for c in type(p).__mro__} for p in parameters)


def agree(ok: bool, group: Any = None) -> bool:
    """Whether all ranks of the group say yes: one small all-reduce, at the same step on each."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return ok
    return min_of(int(ok), group) == 1


def min_of(value: int, group: Any = None) -> int:
    """The least of all ranks' values."""
    import torch.distributed as dist

    reduce = getattr(dist.all_reduce, "__perfkit_original__", dist.all_reduce)
    cell = torch.tensor([value], dtype=torch.int64, device=device_of(group))
    reduce(cell, op=dist.ReduceOp.MIN, group=group)
    return int(cell.item())


def device_of(group: Any = None) -> torch.device:
    """The device that this group communicates on."""
    import torch.distributed as dist

    on_device = dist.get_backend(group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_device else torch.device("cpu")

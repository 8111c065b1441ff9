"""Which training framework runs the script's loop: by who calls, not by what was imported.

A script with a loop of its own may import transformers for a model; then nothing here applies.
"""

from __future__ import annotations

import sys
from typing import Any

CALLERS = (
    ("transformers", ("transformers.trainer",)),
    ("lightning", ("lightning.pytorch.", "pytorch_lightning.")),
    ("deepspeed", ("deepspeed.runtime.",)),
)


def in_use() -> str:
    """accelerate, deepspeed, lightning or transformers; "" for a loop of the script's own."""
    callers = _callers()
    for framework, modules in CALLERS:
        if any(name.startswith(modules) for name in callers):
            return framework
    if _value("deepspeed.comm.comm", "cdb") is not None:
        return "deepspeed"
    accelerator = _value("accelerate.state", "AcceleratorState")
    return "accelerate" if getattr(accelerator, "_shared_state", None) else ""


def _callers() -> set[str]:
    """The modules of all frames on this thread's stack."""
    found = set()
    frame: Any = sys._getframe(1)
    while frame is not None:
        found.add(str(frame.f_globals.get("__name__", "")))
        frame = frame.f_back
    return found


def _value(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)

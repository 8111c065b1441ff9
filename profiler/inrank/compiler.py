"""What torch.compile is told of our code: never to compile it.

Dynamo looks at every Python frame that runs under a compiled function, ours included; compiled,
a wrapper of ours would believe to be inside a graph and count nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import activation, traced

HERE = os.path.dirname(os.path.abspath(__file__))


def install(waiting: dict[str, Callable[[Any], None]]) -> None:
    """Wait for dynamo, which is not part of `import torch`."""
    waiting["torch._dynamo"] = _imported


def _imported(dynamo: Any) -> None:
    try:
        _hide_from_dynamo()
    except Exception as error:  # private functions of torch's: without them, more is compiled
        activation.warn(f"torch.compile may look into perfkit's code: {error!r}")


def _hide_from_dynamo() -> None:
    """Skip all of our files but traced.py, and in that one the frames of the wrappers."""
    from torch._dynamo import trace_rules
    from torch._dynamo.eval_frame import skip_code

    for file in sorted(os.listdir(HERE)):
        module, extension = os.path.splitext(file)
        if extension == ".py" and module not in ("__init__", "traced", "stand_in"):
            trace_rules.add(f"{__package__}.{module}")
    for code in traced.codes():
        skip_code(code)

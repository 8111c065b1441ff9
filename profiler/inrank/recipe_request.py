"""The recipes that a run was asked to apply, as they travel in the environment."""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "PERFKIT_RECIPES"


def asked(environ: Any = os.environ) -> dict[str, Any] | None:
    """The request in an environment (recipes/activation.py wrote it); None without one."""
    text = environ.get(VARIABLE)
    return json.loads(text) if text else None

"""What recipes do inside a rank: one module a mechanism, installed right after `import torch`.

Loaded as `_perfkit_recipes` from whatever folder perfkit lies in. Standard library, torch and this
package only; Python 3.9 and torch 2.3 upwards. A module has `install(recipe)`; it acts as late as
it can, so that what the script chooses itself wins, and records what it changed or why it did not.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable


def start(request: dict[str, Any], record: Callable[..., None]) -> None:
    """Observe the script, and install the recipes of a request."""
    from . import observe
    from .applying import Applying

    observe.install(record)
    for asked in request["recipes"]:
        recipe = Applying(asked["id"], asked["values"], record, asked.get("settings"))
        recipe.variables = asked.get("variables", {})
        if not asked["module"]:
            continue
        try:
            importlib.import_module("." + asked["module"], __name__).install(recipe)
        except Exception as error:  # the training goes on without it
            recipe.refuse(f"it could not be installed: {error!r}")

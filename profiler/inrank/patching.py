"""How a function of torch's is replaced, so that ours can fail without anybody noticing."""

from __future__ import annotations

import functools
from typing import Any, Callable

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def patch(owner: Any, name: str, wrap: Wrap) -> bool:
    """Replace `owner.name` by `wrap(owner.name)`, which keeps its name and docstring.

    False where `owner` has no such attribute: another release of torch.
    """
    original = vars(owner).get(name)
    if original is None:
        return False
    static = isinstance(original, staticmethod)
    function = original.__func__ if static else original
    wrapper = functools.wraps(function)(wrap(function))
    setattr(owner, name, staticmethod(wrapper) if static else wrapper)
    return True

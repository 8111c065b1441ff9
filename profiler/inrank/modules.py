"""`--modules`: the name of the nn.Module around every operator of a window, by its place.

Kineto names modules only together with whole Python stacks (`with_modules` alone records nothing
for models that are not TorchScript), which cost far more. So every call of a module is a range of
ours while a window is open: `nn.Module: GPT.blocks.0.mlp (MLP)`.
"""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any, Callable

import torch

from . import capture, ranges, traced
from .patching import patch

PREFIX = "nn.Module: "
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


class Names:
    """What each module is called: by its path in the outermost module that called it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._roots: dict[str, int] = {}  # how many roots of a class have been named
        self._inside = threading.local()

    def begin(self, module: Any) -> Any:
        """Open the range of a call of `module` on this thread; None where no window is open."""
        if not ranges.state.recording:
            return None
        depth = getattr(self._inside, "depth", 0)
        name = self._known_name(module)
        if name is None and depth == 0:
            self._learn(module)
            name = self._known_name(module)
        mark = ranges.begin(PREFIX + (name or type(module).__name__))
        self._inside.depth = depth + 1
        return mark

    def end(self, mark: Any) -> None:
        """Close what `begin` returned."""
        if mark is not None:
            self._inside.depth -= 1
            ranges.end(mark)

    def _learn(self, root: Any) -> None:
        """Name `root` and all modules below it that have no name yet."""
        inner = root
        while len(inner._modules) == 1 and next(iter(inner._modules)) in WRAPPERS:
            inner = next(iter(inner._modules.values()))
        label = self._known_name(inner) or self._label(inner)
        for module, path in _below(root):
            if self._known_name(module) is None:
                kind = type(module).__name__
                whole = f"{label}.{path}" if path else label
                name = label if module is inner else f"{whole} ({kind})"
                self._known[id(module)] = (weakref.ref(module), name)

    def _known_name(self, module: Any) -> str | None:
        known = self._known.get(id(module))
        return known[1] if known is not None and known[0]() is module else None

    def _label(self, module: Any) -> str:
        """The class; numbered from the second of the class on, unless it holds no others."""
        kind = type(module).__name__
        if not module._modules:
            return kind
        count = self._roots[kind] = self._roots.get(kind, 0) + 1
        return kind if count == 1 else f"{kind}#{count}"


def _below(root: Any) -> Iterator[tuple[Any, str]]:
    """Modules of `root` with their paths, those of wrappers such as DDP left out of the paths."""
    for path, module in root.named_modules():
        yield module, ".".join(part for part in path.split(".") if part not in WRAPPERS)


names = Names()


def install() -> None:
    """Name modules if that was asked for; else their calls are left as they are."""
    request = capture.read()
    if request is not None and request.detail.modules and not request.detail.with_stack:
        call = vars(torch.nn.Module).get("_call_impl")
        if patch(torch.nn.Module, "_call_impl", lambda call: traced.module_call(call, names)):
            patch(torch.nn.Module, "compile", lambda compiling: _compiling(compiling, call))


def _compiling(compiling: Callable[..., Any], call: Any) -> Callable[..., Any]:
    """`Module.compile`, given torch's own call: dynamo leaves its frames alone, ours it would not.

    `nn.Linear(...).compile()` compiles nothing in torch 2.13; of our wrapper it would make a graph.
    """

    def compile_own_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        vars(self)["_call_impl"] = types.MethodType(call, self)
        try:
            return compiling(self, *args, **kwargs)
        finally:
            vars(self).pop("_call_impl", None)

    return compile_own_call

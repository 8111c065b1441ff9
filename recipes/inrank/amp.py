"""Autocast around the model's forward: bf16 alone, or fp16 with a loss scaler of our own.

The model is found at its first forward: the outermost module that holds parameters of an
optimizer. Its outputs come back in fp32, backward stays outside, as torch advises.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import torch

from .applying import Applying, patch, place, sharded
from .steps import steps

LEARN_STEPS = 2  # after which no further module is looked for


class Autocast:
    """The modules that are wrapped, and whether we are inside one."""

    def __init__(self, recipe: Applying, dtype: torch.dtype) -> None:
        self.recipe = recipe
        self.dtype = dtype
        self.depth = 0
        self.open: list[Any] = []
        self.roots: set[int] = set()
        self.entering = False

    def active(self) -> bool:
        """Whether anything is computed in short numbers."""
        return bool(self.roots) and not self.recipe.refused

    def find(self, module: Any, _: Any) -> None:
        """A module is called: wrap it if it is a model that is trained."""
        if steps.done >= LEARN_STEPS:
            self.finder.remove()
            return
        if self.depth or id(module) in self.roots or self.recipe.refused:
            return
        parameters = list(module.parameters())
        if not torch.is_grad_enabled() or not any(id(p) in steps.owned for p in parameters):
            return
        reason = self.recipe.framework() or refusal(parameters, self.dtype)
        if reason:
            self.recipe.refuse(reason)
            return
        self.wrap(module)

    def wrap(self, module: Any) -> None:
        """Hooks, not another forward: a call reads `forward` before its hooks run."""
        self.roots.add(id(module))
        device = next(module.parameters()).device.type

        def enter(*_: Any) -> None:
            if self.depth == 0 and not self.recipe.refused:
                cast = torch.autocast(device, dtype=self.dtype)
                self.entering = True
                cast.__enter__()
                self.entering = False
                self.open.append(cast)
            self.depth += 1

        def leave(_: Any, __: Any, output: Any) -> Any:
            self.depth -= 1
            if self.depth or not self.open:
                return output
            self.open.pop().__exit__(None, None, None)
            return to_fp32(output)

        module.register_forward_pre_hook(enter, prepend=True)
        module.register_forward_hook(leave, always_call=True)
        short = str(self.dtype).split(".")[-1]
        self.recipe.applied(f"autocast of {type(module).__name__}", "float32", short, place())
        enter()  # pre-hooks of this very call have been collected before

    finder: Any = None


def refusal(parameters: Sequence[torch.Tensor], dtype: torch.dtype) -> str:
    """What speaks against autocast here; "" if nothing does."""
    device = parameters[0].device.type
    faults = (
        (autocast_is_on(device), "the script uses autocast itself"),
        (any(p.dtype != torch.float32 for p in parameters), "the parameters are not all fp32"),
        (sharded(parameters), "parameters are sharded (DTensor or FSDP)"),
        (dtype == torch.bfloat16 and not has_bf16(device), f"this {device} has no bf16"),
    )
    found = next((text for is_so, text in faults if is_so), "")
    return found or next(_own_functions(), "")


def autocast_is_on(device: str) -> bool:
    """Whether the caller is inside an autocast region for this device."""
    enabled: Any = torch.is_autocast_enabled
    try:
        return bool(enabled(device))
    except TypeError:  # before torch 2.4 each device had a function of its own
        return bool(torch.is_autocast_cpu_enabled() if device == "cpu" else enabled())


def has_bf16(device: str) -> bool:
    """Whether bf16 products are done by hardware."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    try:
        with open("/proc/cpuinfo") as file:
            flags = file.read(8192)
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _own_functions() -> Iterator[str]:
    """The script's autograd functions that say nothing of autocast."""
    for function in torch.autograd.Function.__subclasses__():
        module = function.__module__
        forward = vars(function).get("forward")
        if module.startswith(("torch.", "_perfkit")) or forward is None:
            continue
        if not hasattr(inspect.unwrap(forward, stop=lambda f: False), "__code__"):
            continue
        if not hasattr(getattr(forward, "__func__", forward), "__wrapped__"):
            yield f"{function.__name__} is an autograd.Function without custom_fwd"


def to_fp32(value: Any) -> Any:
    """The same structure with half-precision tensors as fp32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, dict):
        return type(value)({k: to_fp32(v) for k, v in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_fp32(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_fp32(v) for v in value)
    return value


def install(recipe: Applying) -> None:
    """Look for the model; give up as soon as the script shows a choice of its own."""
    steps.install()
    fp16 = recipe.name == "amp-fp16"
    state = Autocast(recipe, torch.float16 if fp16 else torch.bfloat16)
    module: Any = torch.nn.modules.module
    state.finder = module.register_module_forward_pre_hook(state.find)
    patch(torch.autocast, "__enter__", lambda original: _noticing(state, original))
    scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
    if scaler is not None:
        patch(scaler, "scale", lambda original: _refusing(state, original))
    if fp16:
        from . import scaler as implicit

        implicit.install(recipe, state.active)


def _noticing(state: Autocast, original: Callable[..., Any]) -> Callable[..., Any]:
    def enter(self: Any) -> Any:
        if not torch.compiler.is_compiling() and not state.entering and self._enabled:
            state.recipe.refuse("the script uses autocast itself")
        return original(self)

    return enter


def _refusing(state: Autocast, original: Callable[..., Any]) -> Callable[..., Any]:
    def scale(self: Any, outputs: Any) -> Any:
        if self.is_enabled():
            state.recipe.refuse("the script uses a GradScaler itself")
        return original(self, outputs)

    return scale

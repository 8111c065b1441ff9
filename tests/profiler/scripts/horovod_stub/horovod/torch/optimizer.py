"""The optimizer: a subclass, made at run time, of the class of the program's own."""

from collections.abc import Callable
from typing import Any

import torch

from horovod.torch.mpi_ops import allreduce_async_, synchronize  # type: ignore[import-not-found]


class _DistributedOptimizer(torch.optim.Optimizer):
    def __init__(self, params: Any, named_parameters: Any, backward_passes_per_step: int) -> None:
        super(self.__class__, self).__init__(params)  # type: ignore[call-arg]
        self._handles: dict[torch.Tensor, int] = {}
        self._passes = backward_passes_per_step
        self._left: dict[torch.Tensor, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                self._left[parameter] = backward_passes_per_step
                parameter.register_post_accumulate_grad_hook(self._hook)

    def _hook(self, parameter: torch.Tensor) -> None:
        self._left[parameter] -= 1
        if self._left[parameter] == 0:
            self._handles[parameter] = allreduce_async_(parameter.grad)

    def synchronize(self) -> None:
        for parameter, handle in self._handles.items():
            synchronize(handle)
            self._left[parameter] = self._passes
        self._handles.clear()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.synchronize()
        return super(self.__class__, self).step(closure)


def DistributedOptimizer(
    optimizer: torch.optim.Optimizer,
    named_parameters: Any = None,
    backward_passes_per_step: int = 1,
) -> torch.optim.Optimizer:
    kind = type(
        optimizer.__class__.__name__,
        (optimizer.__class__,),
        dict(_DistributedOptimizer.__dict__),
    )
    made: torch.optim.Optimizer = kind(
        optimizer.param_groups, named_parameters, backward_passes_per_step
    )
    return made

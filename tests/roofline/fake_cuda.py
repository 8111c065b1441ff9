"""A stand-in for torch.cuda: tensors of a "cuda" device lie on the CPU, events tell a fixed time.

It lets the GPU branches of profiler/measure run where no GPU is: whether they call what exists,
with arguments that fit, and whether their arithmetic is right. It says nothing of real devices.
Storage and other programs are left out.
`python -m tests.roofline.fake_cuda` measures collectives in quick mode, as one rank of one.
"""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pynvml
import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

from perfkit.profiler.measure import collectives, compute, machine, memory, storage, timing

CALL_MS = 2.0
"""What lies between any two events."""
MEMORY_BYTES = 1 << 28
L2_BYTES = 1 << 19
ARRAY_BYTES = 1 << 22
ELEMENTS = 1 << 16
PRODUCTS = ((64, 64, 64), (128, 128, 128))
UUID = "11111111-2222-3333-4444-555555555555"


class OnHost(TorchFunctionMode):
    """Makes on the CPU what is asked for on a CUDA device, and notes what was called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.pinned = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        self.called.append(getattr(func, "__name__", ""))
        device = given.get("device")
        if device is not None and torch.device(device).type == "cuda":
            given["device"] = torch.device("cpu")
        self.pinned += bool(given.pop("pin_memory", False))
        return func(*args, **given)


class Event:
    """As torch.cuda.Event, with CALL_MS between any two."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded

    def elapsed_time(self, end: "Event") -> float:
        assert self.recorded and end.recorded
        return CALL_MS


def chain(code: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """As torch.cuda.jiterator's compiler, for the one function that it is given."""
    assert f"i < {compute.FMA_PER_ELEMENT};" in code
    return lambda x: x * x + x


@contextlib.contextmanager
def stand_in(clocks_mhz: Iterator[int], busy_percent: int = 0) -> Iterator[OnHost]:
    """Replace torch.cuda and NVML; `clocks_mhz` is what NVML says, call after call."""
    properties = SimpleNamespace(
        L2_cache_size=L2_BYTES, uuid=UUID, name="Stand-in H200", total_memory=MEMORY_BYTES
    )
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "synchronize": lambda _=None: None,
        "get_device_properties": lambda _: properties,
        "get_device_capability": lambda _: (9, 0),
        "mem_get_info": lambda _: (8 * ARRAY_BYTES, MEMORY_BYTES),
        "Event": Event,
    }
    nvml: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda name: name,
        "nvmlDeviceGetClockInfo": lambda name, _: _clock(name, clocks_mhz),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=busy_percent, memory=0),
    }
    with contextlib.ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for name, value in nvml.items():
            stack.enter_context(mock.patch.object(pynvml, name, value))
        small = timing.Effort(repeats=5, budget_s=0.0, sustained_s=0.0001)
        stack.enter_context(mock.patch.object(timing.Effort, "of", lambda *, quick: small))
        stack.enter_context(mock.patch.object(compute, "SQUARE", PRODUCTS))
        stack.enter_context(mock.patch.object(compute, "TALL", ()))
        stack.enter_context(mock.patch.object(compute, "FMA_ELEMENTS", ELEMENTS))
        stack.enter_context(mock.patch.object(storage, "reads", lambda *_, **__: iter(())))
        stack.enter_context(mock.patch.object(machine, "busy_cores", list))
        stack.enter_context(mock.patch.object(memory, "PINNED_BYTES", ARRAY_BYTES))
        stack.enter_context(mock.patch.object(memory, "MOST_CALLS", 3))
        stack.enter_context(mock.patch("torch.cuda.jiterator._create_jit_fn", chain))
        yield stack.enter_context(OnHost())


def _clock(name: str, clocks_mhz: Iterator[int]) -> int:
    assert name == f"GPU-{UUID}"
    return next(clocks_mhz)


def main() -> None:
    """Measure collectives over one rank; NCCL's part is played by gloo."""
    join = dist.init_process_group

    def joined(backend: str, *, device_id: torch.device) -> None:
        assert backend == "nccl"
        assert device_id == torch.device("cuda", 0)
        join("gloo")

    with stand_in(iter(())), mock.patch.object(dist, "init_process_group", joined):
        collectives.main()


if __name__ == "__main__":
    main()

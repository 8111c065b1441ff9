"""What can be checked of a GPU's measurements without one: torch's own rules of shapes and layouts.

torch's fake tensors carry device, type, shape and strides and no data, and their rules for a "cuda"
tensor are those of the CUDA kernels: the very calls that `perfkit ceilings` makes, in full size.
"""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pynvml
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from perfkit.profiler.measure import compute, memory
from perfkit.profiler.measure.timing import Effort, Run

CUDA = torch.device("cuda", 0)
H200 = 141 << 30
ONCE = Effort(repeats=5, budget_s=0.0, sustained_s=0.0)


class Device:
    """A device whose calls are made once and not timed."""

    torch_device = CUDA

    def seconds(self, run: Run, *, cold: bool = True) -> float:
        del cold
        run()
        return 1.0

    def synchronize(self) -> None:
        pass

    def mhz(self) -> float | None:
        return None

    def busy(self) -> list[str]:
        return []


class Seen(TorchFunctionMode):
    """Notes calls with their tensors' devices; copies are noted only: a CPU's torch makes none."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, ...]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        name = getattr(func, "__name__", "")
        self.calls.append((name, *(t.device.type for t in tensors)))
        if name == "copy_":
            target, source = tensors
            assert (target.shape, target.dtype) == (source.shape, source.dtype)
            return target
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        L2_cache_size = 60 << 20

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (H200 - (1 << 30), H200))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)


def test_every_product_of_the_sweep_is_one_that_cuda_takes() -> None:
    kinds = compute.precisions(CUDA)
    assert {kind.name for kind in kinds} == {"fp32", "fp16", "bf16", "tf32", "fp8"}
    for kind in kinds:
        for m, n, k in (*compute.SQUARE, *compute.TALL):
            with FakeTensorMode():
                product = compute._product(CUDA, kind, (m, n, k))()
            assert isinstance(product, torch.Tensor)
            expected = torch.bfloat16 if kind.name == "fp8" else kind.dtype
            assert (tuple(product.shape), product.dtype) == ((m, n), expected)
            assert product.device == CUDA


def eights(layout: Callable[[torch.Tensor], torch.Tensor], scale: torch.dtype) -> torch.Tensor:
    """An FP8 product whose right side is laid out so."""
    with FakeTensorMode():
        left = torch.randn(512, 512, device=CUDA).to(torch.float8_e4m3fn)
        one = torch.ones((), device=CUDA, dtype=scale)
        return torch._scaled_mm(
            left, layout(left), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )


def test_torch_would_refuse_another_layout_or_scale_for_fp8() -> None:
    """So that the test above can fail: the right side has to be column-major, scales fp32."""
    assert eights(torch.t, torch.float32).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="col_major"):
        eights(torch.clone, torch.float32)
    with pytest.raises(RuntimeError, match="scale"):
        eights(torch.t, torch.float64)


def test_memory_is_copied_on_the_device_over_whole_gibibytes() -> None:
    with FakeTensorMode(), Seen() as seen:
        copy, triad = memory.streams(Device(), ONCE, quick=False)
    assert "copy_ of 1 GiB" in copy["method"]
    assert (copy["value"], triad["value"]) == (2 << 30, 3 << 30)
    assert ("copy_", "cuda", "cuda") in seen.calls
    assert ("add", "cuda", "cuda") in seen.calls


def test_a_device_without_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """480 MiB are eight caches: a smaller array would be measured in the cache."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 30, H200))
    with pytest.raises(RuntimeError, match="only 1024 MiB of the device's"):
        next(memory.streams(Device(), ONCE, quick=True))


def test_cached_copies_take_longer_than_launching_them() -> None:
    """A thousand launches at most in a sample, and 2 ms of copying where they are large."""
    with FakeTensorMode(), Seen():
        points = list(memory.copy_by_working_set(Device(), ONCE, 240 << 20))
    calls = {
        p["working_set_bytes"] >> 20: p["bytes_per_s"] / p["working_set_bytes"] for p in points
    }
    assert sorted(calls) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert calls[1] == 1000 and calls[32] == 238 and calls[128] == 59


def test_host_links_copy_between_host_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def unpinned(*sizes: int, pin_memory: bool = False, **others: Any) -> torch.Tensor:
        assert pin_memory == ("device" not in others)  # pinned is the host's side, and only that
        return empty(*sizes, **others)

    monkeypatch.setattr(torch, "empty", unpinned)
    with FakeTensorMode(), Seen() as seen:
        up, down = memory.host_links(Device(), ONCE)
    assert (up["quantity"], down["quantity"]) == ("h2d", "d2h")
    assert {("copy_", "cuda", "cpu"), ("copy_", "cpu", "cuda")} <= set(seen.calls)


def test_the_chain_of_multiply_adds_is_code_that_torch_compiles() -> None:
    from torch.cuda.jiterator import _create_jit_fn

    chain = _create_jit_fn(compute._FMA_CHAIN % compute.FMA_PER_ELEMENT)
    assert isinstance(chain, torch.cuda.jiterator._JittedFunction)
    assert (chain.kernel_name, chain.num_outputs) == ("fma_chain", 1)


class Facts:
    """What the measurements read of a device, by where torch and NVML define it."""

    properties: ClassVar = {"name", "total_memory", "L2_cache_size", "uuid"}
    nvml: ClassVar = {
        "nvmlInit": (),
        "nvmlDeviceGetHandleByUUID": ("uuid",),
        "nvmlDeviceGetClockInfo": ("handle", "clock"),
        "nvmlDeviceGetUtilizationRates": ("handle",),
    }


def test_torch_and_nvml_know_what_is_asked_of_them() -> None:
    stub = ast.parse((Path(torch.__file__).parent / "_C" / "__init__.pyi").read_text())
    (known,) = [
        node
        for node in stub.body
        if isinstance(node, ast.ClassDef) and node.name == "_CudaDeviceProperties"
    ]
    names = {n.target.id for n in known.body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
    assert names >= Facts.properties
    assert "enable_timing" in inspect.signature(torch.cuda.Event.__new__).parameters
    for name, arguments in Facts.nvml.items():
        inspect.signature(getattr(pynvml, name)).bind(*arguments)
    assert "gpu" in {name for name, _ in pynvml.c_nvmlUtilization_t._fields_}

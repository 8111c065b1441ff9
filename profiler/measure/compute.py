"""Measure arithmetic: matrix products by precision, vector multiply-adds, the rate of launches."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from perfkit.profiler.measure.timing import Device, Effort, Run, Taken, sustained_s, take

Shape = tuple[int, int, int]  # M, N, K
Multiply = Callable[[], object]

SQUARE = tuple((n, n, n) for n in (512, 1024, 2048, 4096, 8192, 16384))
TALL: tuple[Shape, ...] = ((8192, 4096, 1024), (16384, 4096, 4096), (4096, 16384, 4096))
# A product slower than this is not tried again in a larger size: the sweep has to end on a CPU too.
SLOWEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Precision:
    """One kind of matrix product: its name, its element type, and whether TF32 is allowed."""

    name: str
    dtype: torch.dtype
    tf32: bool = False


def precisions(device: torch.device) -> tuple[Precision, ...]:
    """What is worth measuring on this device."""
    common = (
        Precision("fp32", torch.float32),
        Precision("bf16", torch.bfloat16),
    )
    if device.type == "cpu":
        return common
    found = [*common, Precision("fp16", torch.float16)]
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability >= (8, 0):
        found.append(Precision("tf32", torch.float32, tf32=True))
    if torch.version.hip is None and capability >= (8, 9):
        found.append(Precision("fp8", torch.float8_e4m3fn))
    return tuple(found)


def gemm(device: Device, effort: Effort) -> Iterator[dict[str, Any]]:
    """Best median over shapes and mean under sustained load, one entry a precision."""
    for precision in precisions(device.torch_device):
        torch.backends.cuda.matmul.allow_tf32 = precision.tf32
        best = _best_shape(device, precision, effort)
        if best is None:
            continue
        shape, taken, run = best
        flop = _flop(shape)
        yield {
            "quantity": "matrix",
            "precision": precision.name,
            "value": flop / taken.median_s,
            "unit": "FLOP/s",
            "method": f"torch matmul {shape[0]}x{shape[1]}x{shape[2]}, best median of a sweep",
            "sustained": flop / sustained_s(device, run, effort),
            **taken.facts,
        }


def _flop(shape: Shape) -> int:
    return 2 * shape[0] * shape[1] * shape[2]


def _best_shape(
    device: Device, precision: Precision, effort: Effort
) -> tuple[Shape, Taken, Run] | None:
    best: tuple[Shape, Taken, Run] | None = None
    for shape in (*SQUARE, *TALL):
        rate = _flop(best[0]) / best[1].median_s if best else None
        if rate and _flop(shape) / rate > SLOWEST_S:
            continue
        try:
            run = _product(device.torch_device, precision, shape)
            taken = take(device, run, effort)
        except RuntimeError:  # not supported in this precision, or out of memory
            continue
        if rate is None or _flop(shape) / taken.median_s > rate:
            best = (shape, taken, run)
    return best


def _product(device: torch.device, precision: Precision, shape: Shape) -> Multiply:
    m, n, k = shape
    left = torch.randn(m, k, device=device).to(precision.dtype)
    if precision.name == "fp8":
        right = torch.randn(n, k, device=device).to(precision.dtype).t()
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(
            left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )
    right = torch.randn(k, n, device=device).to(precision.dtype)
    out = torch.empty(m, n, device=device, dtype=precision.dtype)
    return lambda: torch.mm(left, right, out=out)


FMA_PER_ELEMENT = 256
FMA_ELEMENTS = 1 << 26
_FMA_CHAIN = """
template <typename T> T fma_chain(T x) {
  T y = x;
  #pragma unroll
  for (int i = 0; i < %d; ++i) { y = y * x + x; }
  return y;
}
"""


def vector(device: Device, effort: Effort) -> Iterator[dict[str, Any]]:
    """The fp32 rate outside the matrix units; on a CPU there is no outside (see gemm)."""
    if device.torch_device.type != "cuda":
        return
    from torch.cuda.jiterator import _create_jit_fn

    chain = _create_jit_fn(_FMA_CHAIN % FMA_PER_ELEMENT)
    x = torch.rand(FMA_ELEMENTS, device=device.torch_device)
    taken = take(device, lambda: chain(x), effort)
    yield {
        "quantity": "vector",
        "precision": "fp32",
        "value": 2 * FMA_PER_ELEMENT * x.numel() / taken.median_s,
        "unit": "FLOP/s",
        "method": f"chain of {FMA_PER_ELEMENT} multiply-adds per element, {x.numel()} elements",
        **taken.facts,
    }


def launch(device: Device, effort: Effort) -> Iterator[dict[str, Any]]:
    """Seconds per call of an operator on one element: what an operator costs if it does nothing."""
    x = torch.zeros(1, device=device.torch_device)
    calls = 2000
    rounds: list[float] = []
    stop = time.perf_counter() + effort.budget_s
    while len(rounds) < 5 or time.perf_counter() < stop:
        device.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            x.zero_()
        device.synchronize()
        rounds.append((time.perf_counter() - begin) / calls)
    taken = Taken(tuple(rounds), device.mhz(), device.mhz())
    yield {
        "quantity": "launch",
        "value": taken.median_s,
        "unit": "s",
        "method": f"zero_ of one element, mean of {calls} calls, median of {len(rounds)} rounds",
        **taken.facts,
    }

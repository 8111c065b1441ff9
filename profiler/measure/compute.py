"""Measure arithmetic: matrix products by precision, vector multiply-adds, the rate of launches."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from perfkit.profiler.measure.timing import Device, Effort, Run, Taken, sustain, take

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
    fp32, bf16 = Precision("fp32", torch.float32), Precision("bf16", torch.bfloat16)
    if device.type == "cpu":
        return fp32, bf16
    fp16 = Precision("fp16", torch.float16)
    if torch.version.hip is not None:
        return fp32, bf16, fp16
    capability = torch.cuda.get_device_capability(device)
    found = [fp32, fp16]
    if capability >= (8, 0):
        found += [bf16, Precision("tf32", torch.float32, tf32=True)]
    if capability >= (8, 9):
        found.append(Precision("fp8", torch.float8_e4m3fn))
    return tuple(found)


def gemm(device: Device, effort: Effort, refused: list[str]) -> Iterator[dict[str, Any]]:
    """Best median over shapes and mean under sustained load, one entry a precision.

    refused: takes a warning for each precision in which the device multiplies no shape.
    """
    try:
        for precision in precisions(device.torch_device):
            torch.backends.cuda.matmul.allow_tf32 = precision.tf32
            entry = _fastest(device, precision, effort, refused)
            if entry is not None:
                yield entry
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _fastest(
    device: Device, precision: Precision, effort: Effort, refused: list[str]
) -> dict[str, Any] | None:
    reasons: list[str] = []
    best = _best_shape(device, precision, effort, reasons)
    if best is None:
        refused += [f"matrix products in {precision.name} could not be measured: {reasons[0]}"]
        return None
    shape, taken, run = best
    flop, longer = _flop(shape), sustain(device, run, effort, taken.median_s)
    how = "_scaled_mm, fast accumulation," if precision.name == "fp8" else "matmul"
    return {
        "quantity": "matrix",
        "precision": precision.name,
        "value": flop / taken.median_s,
        "unit": "FLOP/s",
        "method": f"torch {how} {shape[0]}x{shape[1]}x{shape[2]}, best median of a sweep",
        "sustained": flop / longer.seconds,
        **taken.facts,
        "clocks": {**taken.clocks, "sustained_mhz": longer.mhz},
    }


def first_line(error: RuntimeError) -> str:
    """Return the first line of what torch says; the rest is where in its source."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _flop(shape: Shape) -> int:
    return 2 * shape[0] * shape[1] * shape[2]


def _best_shape(
    device: Device, precision: Precision, effort: Effort, reasons: list[str]
) -> tuple[Shape, Taken, Run] | None:
    best: tuple[Shape, Taken, Run] | None = None
    for shape in (*SQUARE, *TALL):
        rate = _flop(best[0]) / best[1].median_s if best else None
        if rate and _flop(shape) / rate > SLOWEST_S:
            continue
        try:
            run = _product(device.torch_device, precision, shape)
            taken = take(device, run, effort)
        except RuntimeError as error:  # not supported in this precision, or out of memory
            reasons.append(first_line(error))
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
            left,
            right,
            scale_a=one,
            scale_b=one,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,  # as forward passes do; without, it is slower
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
    before = device.mhz()
    rounds: list[float] = []
    stop = time.perf_counter() + effort.budget_s
    while len(rounds) < 5 or time.perf_counter() < stop:
        device.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            x.zero_()
        device.synchronize()
        rounds.append((time.perf_counter() - begin) / calls)
    taken = Taken(tuple(rounds), before, device.mhz())
    yield {
        "quantity": "launch",
        "value": taken.median_s,
        "unit": "s",
        "method": f"zero_ of one element, mean of {calls} calls, median of {len(rounds)} rounds",
        **taken.facts,
    }

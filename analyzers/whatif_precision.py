"""Mixed precision: what each matrix operator's roof allows in bf16, and what the casts cost.

Rule (models.md 5.5): a matrix operator on 32-bit numbers keeps its share of the arithmetic peak,
cannot be faster than half of its bytes through memory, nor than a kernel's least time; each of its
operands is cast once at memory bandwidth. Everything else, communication included, stays.
"""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, I64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.whatif import Change, Setting
from perfkit.analyzers.whatif_device import HALF, MATRIX, TF32
from perfkit.roofline.hardware import Hardware, find

LEAST_KERNEL_NS = 2_000.0
CAST_BYTES = 1.5
"""Traffic of a cast for each byte of 32-bit numbers: read 4 bytes, write 2, for every 4."""
BY_NAME = 0.5


def half_precision() -> Change:
    """Matrix operators in bf16, by their roofs; where shapes are missing, by the kernels' names."""

    def edit(setting: Setting) -> Setting | Refusal:
        if not setting.graph.on_device:
            return Refusal(reason="a CPU capture does not show which operators would gain")
        tasks = of_kinds(setting.plan.graph, ("compute",))
        names = np.array([*setting.graph.names, ""])[setting.graph.name[tasks]]
        matrix = np.array([bool(MATRIX.search(n)) for n in names], np.bool_)
        known = np.isfinite(setting.graph.work.matrix[tasks])
        if not (matrix | known).any():
            return Refusal(reason="no matrix kernel is recognised by its name or its operator")
        half = np.array([bool(HALF.search(n)) for n in names], np.bool_)
        gains = (matrix | known) & ~half
        if not gains.any():
            return Refusal(reason="the matrix kernels run in half precision already")
        return _in_half(setting, tasks[gains], names[gains].tolist())

    return Change(
        name="amp bf16",
        option="--amp bf16",
        assumptions=(
            "matrix operators with recorded shapes keep their share of the published peak, in bf16 "
            "instead of fp32 or TF32, but take at least what half of their bytes need",
            "each of their operands is cast once at memory bandwidth: pessimistic where the "
            "operator before already gives bf16",
            "matrix kernels without recorded shapes, or of an unknown device, take half the time",
            "everything else stays: gradients are sent in fp32, the optimizer works in fp32",
        ),
        apply=edit,
        recipe="amp-bf16",
    )


def _in_half(setting: Setting, tasks: I64, names: list[str]) -> Setting:
    """Give these tasks the times of bf16."""
    duration = setting.work.duration_ns.copy()
    now = duration[tasks]
    devices = setting.graph.devices
    hardware = find(devices[0]).hardware if len(devices) == 1 else None
    then = now * BY_NAME
    if hardware is not None and hardware.matrix_flop_per_s.get("bf16", 0) > 0:
        moved = setting.graph.work.matrix[tasks]
        roofed = _by_roof(hardware, now, moved, names)
        then = np.where(np.isfinite(roofed), roofed, then)
    duration[tasks] = then
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _by_roof(hardware: Hardware, now_ns: F64, moved: F64, names: list[str]) -> F64:
    """Return the time in bf16, casts included, ns; NaN where bytes or peaks are not known."""
    peaks = hardware.matrix_flop_per_s
    wide = np.array([peaks.get("tf32" if TF32.search(n) else "fp32", np.nan) for n in names])
    byte_ns = 1e9 / hardware.memory_bytes_per_s
    arithmetic = now_ns * wide / peaks["bf16"]
    memory = moved / 2 * byte_ns
    least = np.minimum(now_ns, LEAST_KERNEL_NS)
    product = np.minimum(now_ns, np.maximum(np.maximum(arithmetic, memory), least))
    return np.asarray(product + CAST_BYTES * moved * byte_ns)

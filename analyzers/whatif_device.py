"""Another GPU, by roofline class: arithmetic by its peak, everything else by memory bandwidth.

A kernel's class is read from its name: matrix kernels are held against the matrix peak of their
precision, all others against memory bandwidth (models.md 5.5: not one factor for all). Both
devices' peaks are published ones, so that what a kernel reached of its roof is taken along.
"""

import re
from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.whatif import Change, Setting
from perfkit.roofline.hardware import Hardware, find

MATRIX = re.compile(r"gemm|conv|cutlass|flash|fmha|nvjet|xmma|wgmma|cudnn.*fprop|attention", re.I)
HALF = re.compile(r"bf16|f16f16|half|16816|h884|s884|fp16|bfloat", re.I)
_BF16 = re.compile(r"bf16|bfloat", re.I)
TF32 = re.compile(r"tf32|1688", re.I)


def other_gpu(target: Hardware) -> Change:
    """The same work on another device; host and network stay."""

    def edit(setting: Setting) -> Setting | Refusal:
        now = _captured(setting)
        if isinstance(now, Refusal):
            return now
        tasks = of_kinds(setting.plan.graph, ("compute",))
        names = np.array([*setting.graph.names, ""])[setting.graph.name[tasks]].tolist()
        factors = _factors(now, target, names)
        if isinstance(factors, Refusal):
            return factors
        duration = setting.work.duration_ns.copy()
        duration[tasks] *= factors
        return replace(setting, work=replace(setting.work, duration_ns=duration))

    return Change(
        name=target.name,
        option=f"--gpu '{target.name}'",
        assumptions=(
            "matrix kernels (by name) scale with the published matrix peak of their precision, all "
            "other kernels with memory bandwidth",
            "a matrix kernel whose name says no precision counts as fp32",
            "every kernel reaches the same share of its roof as on the captured device",
            "host, launches, copies to and from the host, and the network stay as they are",
        ),
        apply=edit,
    )


def _captured(setting: Setting) -> Hardware | Refusal:
    if not setting.graph.on_device:
        return Refusal(reason="a CPU run holds no work of a GPU")
    if len(setting.graph.devices) != 1:
        several = "ran on different devices" if setting.graph.devices else "do not say on which"
        return Refusal(reason=f"the ranks {several}: there is no one ratio of peaks")
    found = find(setting.graph.devices[0])
    return found.hardware or Refusal(reason=found.reason)


def _factors(now: Hardware, then: Hardware, names: list[str]) -> F64 | Refusal:
    """Return by which factor the time of each kernel changes."""
    memory = now.memory_bytes_per_s / then.memory_bytes_per_s
    by_name: dict[str, float] = {}
    for name in set(names):
        by_name[name] = memory
        if MATRIX.search(name):
            precision = _precision(name)
            peaks = now.matrix_flop_per_s.get(precision), then.matrix_flop_per_s.get(precision)
            if not peaks[0] or not peaks[1]:
                return Refusal(
                    reason=f"no {precision} peak is known for {now.name} and {then.name}, which "
                    f"{name[:60]} needs"
                )
            by_name[name] = peaks[0] / peaks[1]
    return np.array([by_name[name] for name in names], np.float64)


def _precision(name: str) -> str:
    if HALF.search(name):
        return "bf16" if _BF16.search(name) else "fp16"
    return "tf32" if TF32.search(name) else "fp32"

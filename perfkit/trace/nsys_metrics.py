"""GPU metric samples of an Nsight export (nsys profile --gpu-metrics-devices), as means.

GPU_METRICS holds timestamp, typeId, metricId and an integer value; the low byte of typeId numbers
the GPU, TARGET_INFO_GPU_METRICS names the metrics with their units. Each value is the mean of the
sampling period that ends at its timestamp. Which GPU a process used is TARGET_INFO_CUDA_DEVICE's
to say; an export of one GPU and one process needs no saying. Metrics belong to the whole GPU.
"""

import numpy as np

from perfkit.trace.model import I64, NONE, Bool, DeviceCounter, StepWindows
from perfkit.trace.nsys_db import Export
from perfkit.trace.nsys_processes import PID_BITS

_GPU = 0xFF
_PID = (1 << PID_BITS) - 1


def read_counters(
    export: Export, process: int, device: int, steps: StepWindows, base_ns: int
) -> tuple[DeviceCounter, ...]:
    """Return the mean of every metric of a process's GPU over its steps, by metric name.

    `device` is the process's CUDA ordinal. () if there are no samples, or the GPU is not known.
    """
    rows = export.integers("GPU_METRICS", ("timestamp", "typeId", "metricId", "value"))
    if not len(rows):
        return ()
    gpus = rows[:, 1] & _GPU
    gpu = _gpu_of(export, process, device, gpus)
    inside = _within(rows[:, 0] + base_ns, steps)
    rows = rows[(gpus == gpu) & inside & (rows[:, 3] >= 0)]
    found = []
    for (kind, metric), name in sorted(_names(export).items(), key=lambda item: item[1]):
        values = rows[(rows[:, 1] == kind) & (rows[:, 2] == metric), 3]
        if len(values):
            found.append(DeviceCounter(name=name, mean=float(values.mean()), samples=len(values)))
    return tuple(found)


def _gpu_of(export: Export, process: int, device: int, gpus: I64) -> int:
    """Return which GPU in the samples is a process's; NONE if that cannot be told."""
    known = export.integers("TARGET_INFO_CUDA_DEVICE", ("pid", "cudaId", "gpuId"))
    mine = known[(known[:, 0] == process & _PID) & (known[:, 1] == device), 2]
    if len(np.unique(mine)) == 1:
        return int(mine[0])
    alone = export.count("TARGET_INFO_GPU") == 1 and len(np.unique(gpus)) == 1
    return int(gpus[0]) if alone and not len(known) else NONE


def _within(at_ns: I64, steps: StepWindows) -> Bool:
    place = np.searchsorted(steps.start_ns, at_ns, side="right") - 1
    return (place >= 0) & (at_ns <= steps.end_ns[np.maximum(place, 0)])


def _names(export: Export) -> dict[tuple[int, int], str]:
    table = "TARGET_INFO_GPU_METRICS"
    ids, names = export.with_text(table, ("typeId", "metricId"), "metricName")
    return {(kind, metric): name for (kind, metric), name in zip(ids.tolist(), names, strict=True)}

"""Telemetry over the run: samples joined into few enough points to draw."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from perfkit.analyzers.result_telemetry import GpuPoint, LoadPoint
from perfkit.trace.telemetry import GpuSample, Sample

MOST_POINTS = 200
"""Of one curve: more than a chart has room for says no more."""

MOST_IN_ALL = 6_000
"""Of all curves of a run, so that many machines do not fill analysis.json."""

SLOWED = 0x8 | 0x20 | 0x40 | 0x80
"""NVML's clock throttle reasons that mean trouble: hardware slowdown, software thermal, hardware
thermal, hardware power brake (nvml.h, nvmlClocksThrottleReason*)."""


def points_per_curve(curves: int) -> int:
    """Return how many points each of so many curves may have."""
    return max(10, min(MOST_POINTS, MOST_IN_ALL // max(curves, 1)))


def load_points(samples: Sequence[Sample], begin_ns: int, most: int) -> tuple[LoadPoint, ...]:
    """Return at most `most` points of a machine; times count from `begin_ns` (Unix)."""
    points = []
    for part in _stretches(samples, most):
        free = [s.host.mem_available for s in part if s.host.mem_available is not None]
        points.append(
            LoadPoint(
                at_s=_middle_s(part, begin_ns),
                busy_cores=_cores((s.host.busy_ns, s.dt) for s in part),
                own_cores=_cores((s.host.own_ns, s.dt) for s in part),
                free_memory_bytes=min(free, default=None),
            )
        )
    return tuple(points)


def gpu_points(
    samples: Sequence[Sample], index: int, begin_ns: int, most: int
) -> tuple[GpuPoint, ...]:
    """Return at most `most` points of one GPU; times count from `begin_ns` (Unix)."""
    points = []
    for part in _stretches(samples, most):
        own = [gpu for s in part for gpu in s.gpus or () if gpu.index == index]
        if own:
            points.append(
                GpuPoint(
                    at_s=_middle_s(part, begin_ns),
                    utilisation_percent=_mean(own, lambda g: g.util),
                    sm_mhz=_mean(own, lambda g: g.sm_mhz),
                    power_w=_mean(own, lambda g: g.power_w),
                    temp_c=_mean(own, lambda g: g.temp_c),
                    slowed=any((g.throttle or 0) & SLOWED for g in own),
                )
            )
    return tuple(points)


def _stretches(samples: Sequence[Sample], most: int) -> Iterator[Sequence[Sample]]:
    """Yield the samples in at most `most` parts of as equal a length as can be."""
    parts = min(most, len(samples))
    for i in range(parts):
        yield samples[i * len(samples) // parts : (i + 1) * len(samples) // parts]


def _middle_s(part: Sequence[Sample], begin_ns: int) -> float:
    first, last = part[0].u - part[0].dt, part[-1].u
    return round(((first + last) / 2 - begin_ns) / 1e9, 3)


def _cores(grown: Iterable[tuple[int | None, int]]) -> float | None:
    known = [(value, span) for value, span in grown if value is not None]
    return round(sum(v for v, _ in known) / sum(s for _, s in known), 4) if known else None


def _mean(own: Sequence[GpuSample], pick: Callable[[GpuSample], float | None]) -> float | None:
    known = [value for gpu in own if (value := pick(gpu)) is not None]
    return round(sum(known) / len(known), 3) if known else None

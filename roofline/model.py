"""The roofline itself: attainable speed, least time, ridge points, for one device and a whole step.

Classical: Williams, Waterman, Patterson 2009. Hierarchical: Yang, Kurth, Williams. Time-based: Wang
et al. 2020 (arXiv 2009.04598). Network roof: models.md 2.1. SI units: FLOP/s, bytes/s, seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass


def ridge(peak_flop_per_s: float, bandwidth_bytes_per_s: float) -> float:
    """FLOP per byte at which compute and bandwidth take equally long."""
    return peak_flop_per_s / bandwidth_bytes_per_s


def attainable(
    intensity_flop_per_byte: float, peak_flop_per_s: float, bandwidth_bytes_per_s: float
) -> float:
    """The classical roof: min(peak, intensity x bandwidth), in FLOP/s."""
    return min(peak_flop_per_s, intensity_flop_per_byte * bandwidth_bytes_per_s)


def hierarchical_attainable(
    peak_flop_per_s: float,
    intensity_flop_per_byte: Mapping[str, float],
    bandwidth_bytes_per_s: Mapping[str, float],
) -> float:
    """The lowest roof over all levels (L2, HBM, NVLink, NIC, ...) that have both numbers."""
    roofs = (
        intensity_flop_per_byte[level] * bandwidth_bytes_per_s[level]
        for level in intensity_flop_per_byte.keys() & bandwidth_bytes_per_s.keys()
    )
    return min((peak_flop_per_s, *roofs))


def harmonic_peak(flop: Mapping[str, float], peak_flop_per_s: Mapping[str, float]) -> float | None:
    """Peak of a mix of precisions, F / sum(F_d / P_d); None if a precision in use has no peak."""
    total = sum(flop.values())
    if total <= 0 or any(work and not peak_flop_per_s.get(d) for d, work in flop.items()):
        return None
    return total / sum(work / peak_flop_per_s[d] for d, work in flop.items() if work)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBound:
    """Least time of a piece of work, and which resource sets it."""

    compute_s: float
    memory_s: float
    launch_s: float

    @property
    def least_s(self) -> float:
        """max(F/P, Q/B, launches x t_launch)."""
        return max(self.compute_s, self.memory_s, self.launch_s)

    @property
    def limit(self) -> str:
        """compute, memory or launch: the largest of the three."""
        parts = {"compute": self.compute_s, "memory": self.memory_s, "launch": self.launch_s}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The ceilings that one piece of work is held against; one that is not known bounds nothing."""

    peak_flop_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    launch_s: float | None = None


def time_bound(
    limits: Limits, *, flop: float = 0, moved_bytes: float = 0, launches: int = 0
) -> TimeBound:
    """The time-based roofline of some work under these limits."""
    peak, bandwidth, launch = limits.peak_flop_per_s, limits.bandwidth_bytes_per_s, limits.launch_s
    return TimeBound(
        compute_s=flop / peak if peak else 0.0,
        memory_s=moved_bytes / bandwidth if bandwidth else 0.0,
        launch_s=launches * launch if launch else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBound:
    """Bounds of a step from its computing, memory and network times, in seconds.

    lowest: everything overlaps. highest: no transfer overlaps computing. With one network level
    highest is at most twice lowest.
    """

    compute_s: float  # max of FLOP and memory time of the device
    network_s: tuple[float, ...]  # per level

    @property
    def lowest_s(self) -> float:
        """T_lo = max(t_c, t_net...)."""
        return max(self.compute_s, *self.network_s, 0.0)

    @property
    def highest_s(self) -> float:
        """T_hi = t_c + sum of t_net."""
        return self.compute_s + sum(self.network_s)

    def overlap_quality(self, measured_s: float) -> "OverlapQuality | None":
        """(T_hi - T) / (T_hi - T_lo); None where nothing could overlap."""
        room = self.highest_s - self.lowest_s
        if room <= 0:
            return None
        raw = (self.highest_s - measured_s) / room
        return OverlapQuality(raw=raw, clipped=min(max(raw, 0.0), 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapQuality:
    """1: as fast as full overlap allows; 0: nothing overlapped. raw shows what clipping hides."""

    raw: float
    clipped: float

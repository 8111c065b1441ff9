"""The iron law of training time, and how a change of time splits over its factors.

Fleet form: time = FLOPs / (N * peak * MFU * scaling efficiency * goodput). Its logarithm is a
sum, so the change between two runs splits exactly over the factors (a waterfall).
Node form: time = bytes/bandwidth + FLOPs/(peak * eta) + latency, or the largest of them when they
overlap. Source: MLSysBook (cs249r_book), "Iron Law".
"""

from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTerms:
    """The factors of a run; shares lie in (0, 1]."""

    flops: float
    devices: int
    peak_flop_per_s: float  # of one device, at the precision used
    mfu: float  # model FLOP utilisation of one node
    scaling_efficiency: float
    goodput: float

    @property
    def seconds(self) -> float:
        """The time that the factors give."""
        share = self.mfu * self.scaling_efficiency * self.goodput
        return self.flops / (self.devices * self.peak_flop_per_s * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One factor's part of a change: log of its time ratio, and the ratio itself."""

    term: str
    log_ratio: float  # ln(new/base) of the time through this factor alone; they sum to the whole
    time_ratio: float


def waterfall(base: FleetTerms, new: FleetTerms) -> tuple[Contribution, ...]:
    """Split ln(T_new / T_base) over the factors; exact whatever the size of the change."""
    ratios = {
        "flops": new.flops / base.flops,
        "devices": base.devices / new.devices,
        "peak": base.peak_flop_per_s / new.peak_flop_per_s,
        "mfu": base.mfu / new.mfu,
        "scaling_efficiency": base.scaling_efficiency / new.scaling_efficiency,
        "goodput": base.goodput / new.goodput,
    }
    return tuple(
        Contribution(term=term, log_ratio=log(ratio), time_ratio=exp(log(ratio)))
        for term, ratio in ratios.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTerms:
    """The times that bound a step on one node, in seconds."""

    data_s: float  # bytes / memory bandwidth
    compute_s: float  # FLOP / (peak * hardware efficiency)
    network_s: float  # bus bytes / link bandwidth
    overhead_s: float  # launches, host, latencies

    @property
    def serial_s(self) -> float:
        """Nothing overlaps: the sum."""
        return self.data_s + self.compute_s + self.network_s + self.overhead_s

    @property
    def overlapped_s(self) -> float:
        """Everything but the overhead overlaps: the largest term, plus overhead."""
        return max(self.data_s, self.compute_s, self.network_s) + self.overhead_s

    @property
    def binding(self) -> str:
        """The term that a faster machine must shrink first: data, compute or network."""
        terms = {"data": self.data_s, "compute": self.compute_s, "network": self.network_s}
        return max(terms, key=terms.__getitem__)

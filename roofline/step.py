"""A rank's step under its roofs: compute, memory and every network level, overlapped or not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.roofline.ceilings import Roofs
from perfkit.roofline.collective_cost import bus_factor
from perfkit.roofline.model import OverlapQuality, StepBound, harmonic_peak
from perfkit.roofline.network import split_levels
from perfkit.roofline.place import Placement
from perfkit.roofline.traffic import members, nodes_spanned
from perfkit.trace.model import NONE, RankTrace

INTRA, INTER = "intra-node", "inter-node"
WITHOUT_DATA = frozenset({"barrier", "peer_copy"})
"""Transfers that send no bytes over the network, or whose bytes are copies of a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPoint:
    """One kind of collective per step: bus bytes, time with waiting, share of its ceiling."""

    collective: str
    group: str
    ranks: int
    nodes: int | None  # None: the capture does not say where the group's ranks run
    calls: float
    size_bytes: float  # S of nccl-tests, per step
    bus_bytes: float
    time_s: float  # summed over calls, waiting for late ranks included
    busbw_bytes_per_s: float
    ceiling_bytes_per_s: float | None
    ceiling_source: str
    assumed: str

    @property
    def attained(self) -> float | None:
        """Share of the ceiling; waiting lowers it."""
        if not self.ceiling_bytes_per_s:
            return None
        return self.busbw_bytes_per_s / self.ceiling_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of the network: what a rank sends over it per step and how long that takes."""

    name: str
    bus_bytes: float
    bandwidth_bytes_per_s: float | None
    source: str
    intensity: float | None  # executed FLOP per bus byte

    @property
    def least_s(self) -> float | None:
        """Bytes / bandwidth."""
        if self.bandwidth_bytes_per_s is None:
            return None
        return self.bus_bytes / self.bandwidth_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """T_lo and T_hi from one way of taking the compute time.

    compute_s is None where the operators have no ceiling, network_s where a level that was used has
    none; highest_s is then None too, and lowest_s is of what is known.
    """

    compute_from: str
    compute_s: float | None
    network_s: float | None
    lowest_s: float
    highest_s: float | None
    overlap: OverlapQuality | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRoofline:
    """One rank's mean step: work, times at the ceilings, bounds and how well it overlapped."""

    rank: int
    step_s: float
    compute_s: float  # measured
    flop: float
    executed_flop: float
    bytes: float
    peak_flop_per_s: float | None  # harmonic over the precisions used
    flop_s: float | None  # executed matrix FLOP at that peak
    memory_s: float
    levels: tuple[Level, ...]
    ceilings: Pair  # compute from ceilings: what the hardware allows
    measured: Pair  # compute as measured: what this program's computing allows
    network: tuple[NetworkPoint, ...]
    unsized_calls: float = 0.0  # transfers per step whose bytes are not known: no T_hi, no ridge

    @property
    def intensity(self) -> float | None:
        """Executed FLOP per compulsory byte of memory."""
        return self.executed_flop / self.bytes if self.bytes and self.executed_flop else None

    @property
    def limit(self) -> str | None:
        """Which ceiling sets T_lo: compute, memory, or a level of the network.

        None where none is known, or where computing has no ceiling to compare with the network's.
        """
        if self.ceilings.compute_s is None:
            return None
        times = {"compute": self.flop_s or 0.0, "memory": self.memory_s}
        times |= {level.name: level.least_s or 0.0 for level in self.levels}
        longest = max(times, key=lambda name: times[name])
        return longest if times[longest] else None


def step_roofline(
    trace: RankTrace, placement: Placement, roofs: Roofs, node_of: Mapping[int, str]
) -> StepRoofline:
    """Bounds of one rank's step. node_of: where each rank runs, as far as the run tells."""
    scope = _Scope(trace, placement.steps, roofs, node_of)
    network, unsized = _network(scope), _unsized_calls(scope)
    executed = sum(point.executed_flop for point in placement.points)
    levels = _levels(network, roofs, executed)
    by_precision = placement.flop_by_precision()
    peaks = {p: roof.value for p in by_precision if (roof := roofs.matrix(p)) is not None}
    peak = harmonic_peak(by_precision, peaks)
    flop_s = sum(by_precision.values()) / peak if peak else None
    least = _least_compute_s(placement, flop_s)
    times = [level.least_s for level in levels] + [None] * bool(unsized)
    return StepRoofline(
        rank=placement.rank,
        step_s=placement.step_s,
        compute_s=placement.compute_s,
        flop=sum(point.flop for point in placement.points),
        executed_flop=executed,
        bytes=sum(point.bytes for point in placement.points),
        peak_flop_per_s=peak,
        flop_s=flop_s,
        memory_s=placement.least_memory_s,
        levels=levels,
        ceilings=_pair("ceilings", least, times, placement.step_s),
        measured=_pair("measured compute", placement.compute_s, times, placement.step_s),
        network=network,
        unsized_calls=unsized,
    )


def _least_compute_s(placement: Placement, flop_s: float | None) -> float | None:
    """Least time of computing; None where the step's operators have no ceiling at all."""
    computes = any(point.bytes or point.executed_flop for point in placement.points)
    if computes and flop_s is None and not placement.least_memory_s:
        return None
    return max(flop_s or 0.0, placement.least_memory_s)


def _pair(
    source: str, compute_s: float | None, times: Sequence[float | None], step_s: float
) -> Pair:
    """Bounds of a step of `step_s`; times: of each part of the network, None where not known."""
    known = tuple(time for time in times if time is not None)
    bound = StepBound(compute_s=compute_s or 0.0, network_s=known)
    complete = len(known) == len(times) and compute_s is not None
    return Pair(
        compute_from=source,
        compute_s=compute_s,
        network_s=sum(known) if len(known) == len(times) else None,
        lowest_s=bound.lowest_s,
        highest_s=bound.highest_s if complete else None,
        overlap=bound.overlap_quality(step_s) if complete else None,
    )


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    size_bytes: int = 0
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Scope:
    trace: RankTrace
    steps: tuple[int, ...]
    roofs: Roofs
    node_of: Mapping[int, str]


def _network(scope: _Scope) -> tuple[NetworkPoint, ...]:
    """Collectives of these steps by operation and group; those of unknown size are left out."""
    trace, rows = scope.trace, scope.trace.collectives
    wanted = np.isin(trace.events.step[rows.event], list(scope.steps))
    sums: dict[tuple[str, int], _Sum] = {}
    for row in np.flatnonzero(wanted).tolist():
        if rows.size_bytes[row] <= 0:
            continue
        total = sums.setdefault((rows.op[row], int(rows.group[row])), _Sum())
        total.calls += 1
        total.size_bytes += int(rows.size_bytes[row])
        total.time_ns += int(trace.events.duration_ns[rows.event[row]])
    found = [_network_point(scope, op, group, total) for (op, group), total in sums.items()]
    known = [point for point in found if point is not None]
    return tuple(sorted(known, key=lambda p: (-p.bus_bytes, p.collective, p.group)))


def _unsized_calls(scope: _Scope) -> float:
    """Transfers per step between several ranks whose bytes the capture does not tell."""
    rows = scope.trace.collectives
    wanted = np.isin(scope.trace.events.step[rows.event], list(scope.steps))
    unsized = np.flatnonzero(wanted & (rows.size_bytes == NONE))
    calls = Counter(
        zip((rows.op[row] for row in unsized.tolist()), rows.group[unsized].tolist(), strict=True)
    )
    found = sum(
        count
        for (op, group), count in calls.items()
        if op not in WITHOUT_DATA and len(members(scope.trace, group)[0]) > 1
    )
    return found / len(scope.steps) if found else 0.0


def _network_point(scope: _Scope, op: str, group: int, total: _Sum) -> NetworkPoint | None:
    ranks, name, assumed = members(scope.trace, group)
    try:
        factor = bus_factor(op, len(ranks))
    except ValueError:
        return None
    nodes, steps = nodes_spanned(ranks, scope.node_of), len(scope.steps)
    roof = scope.roofs.network(op, nodes) if nodes else None
    bus_bytes, time_s = factor * total.size_bytes / steps, total.time_ns / 1e9 / steps
    return NetworkPoint(
        collective=op,
        group=name,
        ranks=len(ranks),
        nodes=nodes,
        calls=total.calls / steps,
        size_bytes=total.size_bytes / steps,
        bus_bytes=bus_bytes,
        time_s=time_s,
        busbw_bytes_per_s=bus_bytes / time_s if time_s else 0.0,
        ceiling_bytes_per_s=roof.value if roof else None,
        ceiling_source=roof.source if roof else "",
        assumed=assumed,
    )


def _levels(
    network: tuple[NetworkPoint, ...], roofs: Roofs, executed_flop: float
) -> tuple[Level, ...]:
    """Bus bytes per level of the network: within nodes, and between them."""
    sent = {INTRA: 0.0, INTER: 0.0}
    for point in network:
        nodes = point.nodes or 1
        per_node = point.ranks if nodes == 1 else max(point.ranks // nodes, 1)
        split = split_levels(
            point.collective, point.size_bytes, ranks=point.ranks, ranks_per_node=per_node
        )
        sent[INTRA] += split.intra_bytes
        sent[INTER] += split.inter_bytes
    found = []
    for name, nodes in ((INTRA, 1), (INTER, 2)):
        if not sent[name]:
            continue
        roof = roofs.network("all_reduce", nodes)
        found.append(
            Level(
                name=name,
                bus_bytes=sent[name],
                bandwidth_bytes_per_s=roof.value if roof else None,
                source=roof.source if roof else "",
                intensity=executed_flop / sent[name] if executed_flop else None,
            )
        )
    return tuple(found)

"""Places every operator of a rank under its roof: attained share, what bounds it, time above it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfkit.roofline.calls import CallGroup, Uncosted, calls_of
from perfkit.roofline.ceilings import Roof, Roofs
from perfkit.roofline.cost import Unit
from perfkit.roofline.model import Limits, TimeBound, time_bound
from perfkit.trace.model import NONE, RankTrace

EXCESS = 1.05  # a share of the roof above this needs an explanation
ASSUMED_LAUNCH_S = 2e-6
"""Time between two launches on a device where it was not measured (models.md 2.1: 2 to 5 us)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One operator with one set of inputs, over the analysed steps of one rank.

    Sums are per step. attained is bound / time: 1 means the roof is reached. None where no ceiling
    applies.
    """

    name: str
    dims: str
    family: str
    precision: str
    unit: str  # tensor, vector, none
    recomputed: bool
    calls: float
    launches: float
    time_s: float
    flop: float  # of the mathematics; 0 for recomputation
    executed_flop: float
    bytes: float
    bound_s: float | None
    limit: str | None  # tensor, vector, memory, launch
    attained: float | None
    cache_resident: bool
    ceiling_source: str
    assumed: str

    @property
    def intensity(self) -> float | None:
        """Executed FLOP per compulsory byte."""
        return self.executed_flop / self.bytes if self.bytes else None

    @property
    def achieved_flop_per_s(self) -> float:
        """Executed FLOP per second of its own time."""
        return self.executed_flop / self.time_s

    @property
    def achieved_bytes_per_s(self) -> float:
        """Compulsory bytes per second of its own time."""
        return self.bytes / self.time_s

    @property
    def above_roof_s(self) -> float | None:
        """Time per step beyond the bound: what a perfect kernel would save."""
        return None if self.bound_s is None else max(self.time_s - self.bound_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePoint:
    """What ran for one nn.Module per step, forward and backward, submodules left out."""

    name: str  # as recorded: "nn.Module: Conv2d_15"
    time_s: float
    flop: float
    executed_flop: float
    bytes: float
    bound_s: float | None  # sum over its operators; None if one of them has none

    @property
    def attained(self) -> float | None:
        """Share of its roof."""
        return None if self.bound_s is None or not self.time_s else self.bound_s / self.time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Everything that one rank computed per step, placed."""

    rank: int
    device_name: str
    steps: tuple[int, ...]
    step_s: float  # mean window
    compute_s: float  # per step: something was computing
    points: tuple[Point, ...]  # most time above the roof first
    uncosted: tuple[Uncosted, ...]  # totals over the steps
    modules: tuple[ModulePoint, ...] = ()  # most time first; empty: modules were not recorded
    least_memory_s: float  # per step: bytes at the fastest memory that can hold them
    findings: tuple[str, ...]

    @property
    def costed_share(self) -> float | None:
        """Share of operator time whose cost is known."""
        known = sum(point.time_s for point in self.points) * len(self.steps)
        unknown = sum(entry.time_ns for entry in self.uncosted) / 1e9
        return known / (known + unknown) if known + unknown else None

    def flop_by_precision(self) -> Mapping[str, float]:
        """Executed matrix FLOP per step by precision."""
        found: dict[str, float] = {}
        for point in self.points:
            if point.unit == Unit.TENSOR:
                found[point.precision] = found.get(point.precision, 0.0) + point.executed_flop
        return found


def analysed_steps(trace: RankTrace) -> tuple[int, ...]:
    """Complete steps without an evaluation; if there are none, all steps."""
    rows = range(len(trace.steps.index))
    good = [i for i in rows if trace.steps.complete[i] and not trace.steps.has_eval[i]]
    return tuple(int(trace.steps.index[i]) for i in good or rows)


def place(trace: RankTrace, roofs: Roofs, steps: Sequence[int] | None = None) -> Placement:
    """Place one rank's operators under these roofs. Needs recorded shapes; without, no points."""
    chosen = tuple(steps) if steps is not None else analysed_steps(trace)
    found = calls_of(trace, frozenset(chosen))
    count = max(len(chosen), 1)
    on_cpu = trace.device_kind == "cpu"
    points = [_point(group, roofs, count, on_cpu=on_cpu) for group in found.groups if group.time_ns]
    points.sort(key=lambda p: (-(p.above_roof_s or 0.0), -p.time_s, p.name, p.dims))
    return Placement(
        rank=trace.rank,
        device_name=_device_name(trace),
        steps=chosen,
        step_s=_mean_window_s(trace, chosen),
        compute_s=found.compute_ns / 1e9 / count,
        points=tuple(points),
        uncosted=found.uncosted,
        modules=_modules(found.modules, roofs, count, on_cpu=on_cpu),
        least_memory_s=sum(_least_memory_s(group, roofs) for group in found.groups) / count,
        findings=tuple(_excess(point) for point in points if _is_excess(point)),
    )


def _modules(
    groups: Mapping[str, Sequence[CallGroup]], roofs: Roofs, steps: int, *, on_cpu: bool
) -> tuple[ModulePoint, ...]:
    found = []
    for name, calls in groups.items():
        points = [_point(group, roofs, steps, on_cpu=on_cpu) for group in calls if group.time_ns]
        bounds = [point.bound_s for point in points if point.bound_s is not None]
        found.append(
            ModulePoint(
                name=name,
                time_s=sum(point.time_s for point in points),
                flop=sum(point.flop for point in points),
                executed_flop=sum(point.executed_flop for point in points),
                bytes=sum(point.bytes for point in points),
                bound_s=sum(bounds) if len(bounds) == len(points) else None,
            )
        )
    return tuple(sorted(found, key=lambda module: (-module.time_s, module.name)))


def _device_name(trace: RankTrace) -> str:
    if trace.device == NONE:
        return ""
    names = (device.name for device in trace.devices if device.index == trace.device)
    return next(names, "")


def _mean_window_s(trace: RankTrace, chosen: Sequence[int]) -> float:
    if trace.steps.source == "whole" and len(trace.events):  # no steps: all work of the capture
        return int(trace.events.end_ns.max() - trace.events.start_ns.min()) / 1e9
    wanted = set(chosen)
    windows = [
        int(end) - int(start)
        for index, start, end in zip(
            trace.steps.index, trace.steps.start_ns, trace.steps.end_ns, strict=True
        )
        if int(index) in wanted
    ]
    return sum(windows) / 1e9 / len(windows) if windows else 0.0


@dataclass(frozen=True, slots=True)
class _Held:
    """The bound that a group of calls is held against, and which ceilings made it."""

    bound: TimeBound
    limit: str | None
    source: str
    cache_resident: bool


def _point(group: CallGroup, roofs: Roofs, steps: int, *, on_cpu: bool) -> Point:
    cost, time_s = group.cost, group.time_ns / 1e9
    held = _hold(group, roofs, on_cpu=on_cpu)
    least = held.bound.least_s
    return Point(
        name=group.name,
        dims=group.dims,
        family=cost.family,
        precision=cost.precision,
        unit=cost.unit.value,
        recomputed=group.recomputed,
        calls=group.calls / steps,
        launches=group.launches / steps,
        time_s=time_s / steps,
        flop=0.0 if group.recomputed else cost.flop * group.calls / steps,
        executed_flop=cost.executed_flop * group.calls / steps,
        bytes=cost.bytes * group.calls / steps,
        bound_s=least / steps if least else None,
        limit=held.limit,
        attained=least / time_s if least else None,
        cache_resident=held.cache_resident,
        ceiling_source=held.source,
        assumed=cost.assumed,
    )


def _hold(group: CallGroup, roofs: Roofs, *, on_cpu: bool) -> _Held:
    """Bound the calls by compute and memory, on a CPU by dispatch too.

    Calls faster than main memory allows, whose bytes fit the last-level cache, are held against
    the cache instead. A device's launches pass while it works, so they are no part of kernel time;
    kernels shorter than the time between two launches are bound by launching all the same.
    """
    time_s, memory, launch = group.time_ns / 1e9, roofs.memory(), roofs.launch()
    peak = _peak(group, roofs)
    dispatch = launch if on_cpu else None
    bound = _bound(group, peak, memory, dispatch)
    resident = bound.memory_s > time_s * EXCESS and roofs.fits_cache(group.cost.bytes)
    if resident:
        memory = roofs.cached(group.cost.bytes)
        bound = _bound(group, peak, memory, dispatch)
    limit = _limit(bound, group.cost.unit) if bound.least_s else None
    source = {"memory": memory, "launch": dispatch}.get(limit or "", peak)
    between = launch.value if launch else ASSUMED_LAUNCH_S
    if not on_cpu and time_s < group.launches * between:
        limit = "launch"
    return _Held(bound, limit, source.source if source and limit else "", resident)


def _peak(group: CallGroup, roofs: Roofs) -> Roof | None:
    """The roof over this arithmetic: matrix units by precision, else fp32 vector units."""
    if group.cost.unit == Unit.TENSOR:
        return roofs.matrix(group.cost.precision)
    return roofs.vector() if group.cost.unit == Unit.VECTOR else None


def _bound(
    group: CallGroup, peak: Roof | None, memory: Roof | None, launch: Roof | None
) -> TimeBound:
    limits = Limits(
        peak_flop_per_s=peak.value if peak else None,
        bandwidth_bytes_per_s=memory.value if memory else None,
        launch_s=launch.value if launch else None,
    )
    return time_bound(
        limits,
        flop=group.cost.executed_flop * group.calls,
        moved_bytes=group.cost.bytes * group.calls,
        launches=group.launches,
    )


def _limit(bound: TimeBound, unit: Unit) -> str:
    return unit.value if bound.limit == "compute" else bound.limit


def _least_memory_s(group: CallGroup, roofs: Roofs) -> float:
    """Least time of this group's bytes: at cache speed wherever they could have been cached."""
    roof = roofs.cached(group.cost.bytes) or roofs.memory()
    return group.cost.bytes * group.calls / roof.value if roof else 0.0


def _is_excess(point: Point) -> bool:
    return point.attained is not None and point.attained > EXCESS


def _excess(point: Point) -> str:
    share = point.attained or 0.0
    where = "the cached copy ceiling" if point.cache_resident else f"its {point.limit} roof"
    return (
        f"{point.name} ({point.dims}) reached {share:.0%} of {where}: "
        f"the ceiling ({point.ceiling_source}) is too low, or the recorded inputs mislead"
    )

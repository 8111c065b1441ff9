"""The roofline of a whole run: ranks put together, utilization, ridges, and what cannot be told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perfkit.roofline.calls import Uncosted
from perfkit.roofline.ceilings import Roofs
from perfkit.roofline.configuration import Configuration, NetworkRidge, network_ridges
from perfkit.roofline.mfu import Convention
from perfkit.roofline.model import harmonic_peak
from perfkit.roofline.place import ModulePoint, Placement, Point
from perfkit.roofline.step import StepRoofline

SCHEMA_VERSION = 1
BELOW = 1.05  # a step faster than its bound by more than this is a finding


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedCeiling:
    """One ceiling that stood over this run, and where it comes from."""

    quantity: str
    precision: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """Achieved share of the peak per device, by one convention of counting FLOP."""

    convention: str
    counts: str  # what it counts, in words
    flop_per_step: float  # of all ranks
    step_s: float
    peak_flop_per_s: float  # of all ranks
    peak_source: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotTell:
    """A part of the roofline that is missing, why, and what would bring it."""

    claim: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRoofline:
    """What `perfkit roofline` says of a run; points and times are per step, mean over ranks."""

    schema_version: int
    device_kind: str
    device_name: str
    analysed_ranks: tuple[int, ...]
    world_size: int
    ceilings: tuple[UsedCeiling, ...]
    points: tuple[Point, ...]  # most time above the roof first
    uncosted: tuple[Uncosted, ...]  # totals over steps and ranks
    modules: tuple[ModulePoint, ...] = ()  # per step, mean over ranks; empty: not recorded
    costed_share: float | None
    ranks: tuple[StepRoofline, ...]
    utilization: tuple[Utilization, ...]
    network: tuple[NetworkRidge, ...]
    findings: tuple[str, ...]
    cannot_tell: tuple[CannotTell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The placed ranks of a run and what the run says of itself."""

    placements: Sequence[Placement]
    steps: Sequence[StepRoofline]
    device_kind: str
    world_size: int
    configuration: Configuration
    has_shapes: bool
    unprofiled_step_s: float | None = None  # median of unprofiled steps, slowest rank


def summarize(run: Ranks, roofs: Roofs, missing_device: str) -> RunRoofline:
    """Put ranks together. missing_device: why there are no published peaks, "" if there are."""
    used = _used(run, roofs)
    utilization = _utilizations(run, roofs)
    findings = [text for placement in run.placements for text in placement.findings]
    findings += [_above_one(entry) for entry in utilization if entry.share > 1]
    findings += [_below_bound(step) for step in run.steps if _is_below_bound(step)]
    return RunRoofline(
        schema_version=SCHEMA_VERSION,
        device_kind=run.device_kind,
        device_name=_one_device(run.placements),
        analysed_ranks=tuple(placement.rank for placement in run.placements),
        world_size=run.world_size,
        ceilings=used,
        points=merge_points([placement.points for placement in run.placements]),
        uncosted=_merge_uncosted(run.placements),
        modules=_merge_modules(run.placements),
        costed_share=_costed_share(run.placements),
        ranks=tuple(run.steps),
        utilization=utilization,
        network=network_ridges(run.steps, run.configuration),
        findings=tuple(dict.fromkeys(findings)),
        cannot_tell=tuple(_cannot_tell(run, roofs, missing_device)),
    )


def merge_points(ranks: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """Points of the same operator and inputs, mean over ranks; most time above the roof first."""
    groups: dict[tuple[str, str, str, bool], list[Point]] = {}
    for points in ranks:
        for point in points:
            key = (point.name, point.dims, point.precision, point.recomputed)
            groups.setdefault(key, []).append(point)
    merged = (_mean(points, len(ranks)) for points in groups.values())
    return tuple(
        sorted(merged, key=lambda p: (-(p.above_roof_s or 0.0), -p.time_s, p.name, p.dims))
    )


def _mean(points: list[Point], ranks: int) -> Point:
    slowest = max(points, key=lambda point: point.time_s)
    bounds = [point.bound_s for point in points]
    known = [bound for bound in bounds if bound is not None]
    bound_s = sum(known) / ranks if len(known) == len(points) else None
    time_s = sum(point.time_s for point in points) / ranks
    return replace(
        slowest,
        calls=sum(point.calls for point in points) / ranks,
        launches=sum(point.launches for point in points) / ranks,
        time_s=time_s,
        flop=sum(point.flop for point in points) / ranks,
        executed_flop=sum(point.executed_flop for point in points) / ranks,
        bytes=sum(point.bytes for point in points) / ranks,
        bound_s=bound_s,
        attained=bound_s / time_s if bound_s is not None else None,
        cache_resident=any(point.cache_resident for point in points),
    )


def _merge_uncosted(placements: Iterable[Placement]) -> tuple[Uncosted, ...]:
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for placement in placements:
        for entry in placement.uncosted:
            key = (entry.name, entry.kind, entry.why)
            calls, time_ns = sums.get(key, (0, 0))
            sums[key] = (calls + entry.calls, time_ns + entry.time_ns)
    merged = [
        Uncosted(name=name, kind=kind, why=why, calls=calls, time_ns=time_ns)
        for (name, kind, why), (calls, time_ns) in sums.items()
    ]
    return tuple(sorted(merged, key=lambda entry: (-entry.time_ns, entry.name)))


def _merge_modules(placements: Sequence[Placement]) -> tuple[ModulePoint, ...]:
    groups: dict[str, list[ModulePoint]] = {}
    for placement in placements:
        for module in placement.modules:
            groups.setdefault(module.name, []).append(module)
    ranks = len(placements)
    merged = []
    for name, rows in groups.items():
        bounds = [row.bound_s for row in rows if row.bound_s is not None]
        merged.append(
            ModulePoint(
                name=name,
                time_s=sum(row.time_s for row in rows) / ranks,
                flop=sum(row.flop for row in rows) / ranks,
                executed_flop=sum(row.executed_flop for row in rows) / ranks,
                bytes=sum(row.bytes for row in rows) / ranks,
                bound_s=sum(bounds) / ranks if len(bounds) == len(rows) else None,
            )
        )
    return tuple(sorted(merged, key=lambda module: (-module.time_s, module.name)))


def _costed_share(placements: Sequence[Placement]) -> float | None:
    shares = [p.costed_share for p in placements if p.costed_share is not None]
    return sum(shares) / len(shares) if shares else None


def _one_device(placements: Sequence[Placement]) -> str:
    names = sorted({placement.device_name for placement in placements})
    return " and ".join(names)


def _used(run: Ranks, roofs: Roofs) -> tuple[UsedCeiling, ...]:
    precisions = sorted({p for placement in run.placements for p in placement.flop_by_precision()})
    found = [("matrix", p, roofs.matrix(p), "FLOP/s") for p in precisions]
    found += [
        ("vector", "fp32", roofs.vector(), "FLOP/s"),
        ("memory", "", roofs.memory(), "bytes/s"),
        ("launch", "", roofs.launch(), "s"),
        ("network within a node", "", roofs.network("all_reduce", 1), "bytes/s"),
        ("network between nodes", "", roofs.network("all_reduce", 2), "bytes/s"),
    ]
    return tuple(
        UsedCeiling(
            quantity=name, precision=precision, value=roof.value, unit=unit, source=roof.source
        )
        for name, precision, roof, unit in found
        if roof is not None
    )


def _utilizations(run: Ranks, roofs: Roofs) -> tuple[Utilization, ...]:
    """Shares of the peak of the devices that were analysed, over the unprofiled step if known."""
    peak = _peak(run.placements, roofs)
    step_s = run.unprofiled_step_s or max((step.step_s for step in run.steps), default=0.0)
    if peak is None or not step_s:
        return ()
    peak_flop, source = peak
    ranks = len(run.steps)
    counts = [
        (Convention.EXECUTED, "executed matrix products, recomputation included", _executed(run)),
        (Convention.OPERATORS, "matrix products of the model, without recomputation", _model(run)),
    ]
    six_n = run.configuration.six_n_flop
    if six_n is not None:
        counts.append(
            (Convention.SIX_N, "6 x parameters x tokens, without attention", six_n * ranks)
        )
    return tuple(
        Utilization(
            convention=name.value,
            counts=what,
            flop_per_step=flop,
            step_s=step_s,
            peak_flop_per_s=peak_flop * ranks,
            peak_source=source,
            share=flop / (step_s * peak_flop * ranks),
        )
        for name, what, flop in counts
        if flop
    )


def _peak(placements: Sequence[Placement], roofs: Roofs) -> tuple[float, str] | None:
    """Peak of one device for this mix of precisions: published where known, as MFU demands."""
    mix: dict[str, float] = {}
    for placement in placements:
        for precision, flop in placement.flop_by_precision().items():
            mix[precision] = mix.get(precision, 0.0) + flop
    for source in (Roofs(published=roofs.published), roofs):
        found = {p: roof for p in mix if (roof := source.matrix(p)) is not None}
        peak = harmonic_peak(mix, {p: roof.value for p, roof in found.items()})
        if peak is not None:
            return peak, "; ".join(sorted({roof.source for roof in found.values()}))
    return None


def _executed(run: Ranks) -> float:
    return sum(sum(placement.flop_by_precision().values()) for placement in run.placements)


def _model(run: Ranks) -> float:
    return sum(p.flop for q in run.placements for p in q.points if p.unit == "tensor")


def _above_one(entry: Utilization) -> str:
    return (
        f"utilization of {entry.share:.0%} ({entry.convention}) cannot be: the peak "
        f"({entry.peak_source}) is too low for this device, or the FLOP are counted too high"
    )


def _is_below_bound(step: StepRoofline) -> bool:
    return step.step_s * BELOW < step.ceilings.lowest_s


def _below_bound(step: StepRoofline) -> str:
    return (
        f"rank {step.rank} took {step.step_s * 1e3:.1f} ms a step, less than the "
        f"{step.ceilings.lowest_s * 1e3:.1f} ms that the ceilings allow: they were measured too low"
    )


def _cannot_tell(run: Ranks, roofs: Roofs, missing_device: str) -> Iterable[CannotTell]:
    if not run.has_shapes:
        yield CannotTell(
            claim="points, FLOP, utilization",
            why="the capture records no operator shapes",
            remedy="record with record_shapes=True, or with perfkit profile",
        )
    if roofs.measured is None:
        yield CannotTell(
            claim="shares of measured ceilings",
            why=missing_device or "no ceilings of this machine were given",
            remedy="on the machine of the run: perfkit ceilings --out RUN/ceilings.json; then: "
            "perfkit analyze RUN",
        )
    if len({placement.device_name for placement in run.placements}) > 1:
        yield CannotTell(
            claim="one roof for all ranks",
            why=f"the ranks ran on different devices: {_one_device(run.placements)}",
            remedy="read the ranks one by one; the ceilings are those of the first device",
        )
    if any(level.bandwidth_bytes_per_s is None for step in run.steps for level in step.levels):
        yield CannotTell(
            claim="the network roof",
            why="no collective was measured on a network level that this run used",
            remedy="perfkit ceilings --ranks N; between nodes, start it with torchrun on each",
        )
    missing = _missing_nodes(run.steps)
    if missing:
        yield CannotTell(
            claim="which links a group's collectives cross",
            why=f"{missing} groups have ranks whose node the capture does not name",
            remedy="capture every rank",
        )


def _missing_nodes(steps: Iterable[StepRoofline]) -> int:
    return len({p.group for step in steps for p in step.network if p.nodes is None})

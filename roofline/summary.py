"""The roofline of a whole run: ranks put together, utilization, ridges, and what cannot be told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perfkit.roofline.architecture import Architecture
from perfkit.roofline.calls import Uncosted
from perfkit.roofline.ceilings import Roof, Roofs
from perfkit.roofline.closed_form import ClosedForm, closed_forms
from perfkit.roofline.configuration import Configuration, NetworkRidge, network_ridges
from perfkit.roofline.parallel import Parallelism
from perfkit.roofline.place import ModulePoint, Placement, Point
from perfkit.roofline.step import StepRoofline
from perfkit.roofline.threads import NotMeasured, Peak
from perfkit.roofline.utilization import (
    NOTHING_GIVEN,
    GivenSizes,
    NotCounted,
    TransformerSizes,
    Utilization,
    Work,
    sizes_of,
    utilizations,
)

SCHEMA_VERSION = 1
PART_UNKNOWN = 0.05
"""Share of time without a known cost from which the counted FLOP are called a lower bound."""
IN_CACHE = "memory in cache"
"""Quantity of the ceiling over operators whose bytes fit the last-level cache."""
BELOW = 1.05  # a step faster than its bound by more than this is a finding


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedCeiling:
    """One ceiling that stood over this run, and where it comes from."""

    quantity: str
    precision: str
    value: float
    unit: str
    source: str

    @property
    def is_measured(self) -> bool:
        """Whether it was measured on the machine, not published for its kind."""
        return self.source.startswith("measured")


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
    transformer: TransformerSizes | None = None  # of the first rank's part of the model
    parallelism: tuple[Parallelism, ...] = ()
    network: tuple[NetworkRidge, ...]
    closed_forms: tuple[ClosedForm, ...] = ()
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
    architectures: Sequence[Architecture] = ()  # of the same ranks
    given: GivenSizes = NOTHING_GIVEN
    peak: Peak | None = None  # of the CPUs that these ranks share; None: a device each
    unchecked: str = ""  # why nothing says that the ceilings are of this machine
    not_measured: NotMeasured | None = None  # the threads that ranks computed with


def summarize(run: Ranks, roofs: Roofs, missing_device: str) -> RunRoofline:
    """Put ranks together. missing_device: why there are no published peaks, "" if there are."""
    used = _used(run, roofs)
    peaks = Roofs(run.peak.ceilings, roofs.published) if run.peak else roofs
    utilization, left_out, doubts = utilizations(_work(run), peaks)
    transformer = _transformer(run)
    findings = [text for placement in run.placements for text in placement.findings]
    findings += doubts
    sized = [] if any(step.unsized_calls for step in run.steps) else run.steps
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
        transformer=transformer,
        parallelism=run.configuration.parallelism,
        network=network_ridges(sized, run.configuration),
        closed_forms=closed_forms(
            sized, run.configuration, roofs, _hidden(run.configuration, transformer)
        ),
        findings=tuple(dict.fromkeys(findings)),
        cannot_tell=(
            *_cannot_tell(run, roofs, missing_device),
            *_undecided(run, roofs, left_out, counted=bool(utilization)),
        ),
    )


def _work(run: Ranks) -> Work:
    longest = max((step.step_s for step in run.steps), default=0.0)
    return Work(
        placements=run.placements,
        architectures=run.architectures,
        configuration=run.configuration,
        given=run.given,
        devices=run.peak.devices if run.peak else len(run.placements),
        peak_note=run.peak.note if run.peak else "",
        step_s=run.unprofiled_step_s or longest,
    )


def _transformer(run: Ranks) -> TransformerSizes | None:
    """Sizes of the first rank; None where neither the capture nor the user names one."""
    found = next(iter(run.architectures), None)
    if found is None or (found.attention is None and run.given == NOTHING_GIVEN):
        return None
    return sizes_of(found, run.configuration, run.given)


def _hidden(configuration: Configuration, sizes: TransformerSizes | None) -> float | None:
    """The model's hidden size: heads times their size, over all ranks of a tensor group."""
    tensor = configuration.tensor
    if sizes is None or tensor is None or not sizes.heads or not sizes.head_size:
        return None
    return float(sizes.heads * sizes.head_size * tensor.ranks)


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
        (IN_CACHE, "", _cache(run, roofs), "bytes/s"),
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


def _cache(run: Ranks, roofs: Roofs) -> Roof | None:
    """The fastest copy in the last-level cache, where an operator is held against the cache."""
    points = (point for placement in run.placements for point in placement.points)
    return roofs.cached(0) if any(point.cache_resident for point in points) else None


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
    unsized = max((step.unsized_calls for step in run.steps), default=0.0)
    if unsized:
        yield CannotTell(
            claim="what the network must carry",
            why=f"transfers of which no size is recorded: {unsized:g} a step",
            remedy="record with record_shapes=True, or with perfkit profile",
        )
    missing = _missing_nodes(run.steps)
    if missing:
        yield CannotTell(
            claim="which links a group's collectives cross",
            why="the capture does not name the node of every rank of "
            + ("a group" if missing == 1 else f"{missing} groups"),
            remedy="record every rank with perfkit profile; bytes count as within a node",
        )


def _undecided(
    run: Ranks, roofs: Roofs, left_out: Iterable[NotCounted], *, counted: bool
) -> Iterable[CannotTell]:
    """Groups without a known purpose, conventions that cannot be counted, unchecked ceilings."""
    for group in run.configuration.parallelism:
        if not group.kind:
            yield CannotTell(
                claim=f"what parallelism group {group.group or 'of all ranks'} serves",
                why=group.because,
                remedy="record every rank with perfkit profile",
            )
    unknown = 1 - (_costed_share(run.placements) or 1.0)
    if counted and unknown > PART_UNKNOWN:
        yield CannotTell(
            claim="all FLOP that were executed",
            why=f"{unknown:.0%} of the operators' time has no known cost "
            f"({_longest_unknown(run.placements)})",
            remedy="read the utilizations 'executed' and 'operators' as lower bounds",
        )
    if _attends(run):
        for entry in left_out:
            yield CannotTell(
                claim=f"utilization by {entry.convention}", why=entry.why, remedy=entry.remedy
            )
    if run.unchecked and roofs.measured is not None:
        yield CannotTell(
            claim="whether the ceilings are of the machine that ran this",
            why=run.unchecked,
            remedy="measure them on that machine",
        )
    if run.not_measured is not None:
        yield CannotTell(
            claim="how near operators come to their roof",
            why=run.not_measured.why,
            remedy=run.not_measured.remedy,
        )


def _longest_unknown(placements: Sequence[Placement]) -> str:
    names = [entry.name for entry in _merge_uncosted(placements)[:2]]
    return ", ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in names)


def _attends(run: Ranks) -> bool:
    """Whether formulas for transformers apply: attention was seen, or sizes were given."""
    seen = any(p.family == "attention" for q in run.placements for p in q.points)
    return seen or any(a.attention for a in run.architectures) or run.given != NOTHING_GIVEN


def _missing_nodes(steps: Iterable[StepRoofline]) -> int:
    return len({p.group for step in steps for p in step.network if p.nodes is None})

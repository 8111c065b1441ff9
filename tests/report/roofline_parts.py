"""A made-up roofline and made-up memory for pages: round numbers, nothing is measured."""

from perfkit.analyzers import result as r
from perfkit.roofline.configuration import NetworkRidge
from perfkit.roofline.place import ModulePoint, Point
from perfkit.roofline.step import Level, Pair, StepRoofline
from perfkit.roofline.summary import CannotTell, RunRoofline, UsedCeiling
from perfkit.roofline.utilization import Utilization

PEAK, BANDWIDTH, LINK = 1e15, 2e12, 100e9


def point(
    name: str, flop: float, size: float, time_s: float, *, bound_s: float | None, limit: str | None
) -> Point:
    return Point(
        name=name,
        dims="4096x1024, 1024x4096",
        family="gemm",
        precision="bf16",
        unit="tensor",
        recomputed=False,
        calls=12.0,
        launches=12.0,
        time_s=time_s,
        flop=flop,
        executed_flop=flop,
        bytes=size,
        bound_s=bound_s,
        limit=limit,
        attained=None if bound_s is None else bound_s / time_s,
        cache_resident=False,
        ceiling_source="published: made up",
        assumed="",
    )


def step(rank: int, *, placed: bool = True) -> StepRoofline:
    levels = (
        Level(
            name="intra-node",
            bus_bytes=1e9,
            bandwidth_bytes_per_s=LINK if placed else None,
            source="measured: made up" if placed else "",
            intensity=4e12 / 1e9,
        ),
    )

    def pair(source: str, compute_s: float) -> Pair:
        network = 1e9 / LINK if placed else None
        return Pair(
            compute_from=source,
            compute_s=compute_s,
            network_s=network,
            lowest_s=max(compute_s, network or 0.0),
            highest_s=None if network is None else compute_s + network,
            overlap=None,
        )

    return StepRoofline(
        rank=rank,
        step_s=0.05,
        compute_s=0.03,
        flop=4e12,
        executed_flop=4e12,
        bytes=8e9,
        peak_flop_per_s=PEAK if placed else None,
        flop_s=4e12 / PEAK if placed else None,
        memory_s=8e9 / BANDWIDTH if placed else 0.0,
        levels=levels,
        ceilings=pair("ceilings", 4e-3 if placed else 0.0),
        measured=pair("measured compute", 0.03),
        network=(),
    )


def roofline(names: tuple[str, ...], ranks: int = 2, *, placed: bool = True) -> RunRoofline:
    """A roofline with one operator a name; without ceilings where `placed` is False."""
    points = [
        point(
            name,
            2e12 / (i + 1),
            2e12 / (i + 1) / (600 if i % 2 == 0 else 4),
            (4e-3 if i % 2 == 0 else 0.4) / (i + 1),
            bound_s=((2e-3 if i % 2 == 0 else 0.25) / (i + 1)) if placed else None,
            limit=("tensor" if i % 2 == 0 else "memory") if placed else None,
        )
        for i, name in enumerate(names)
    ]
    points.append(point("aten::copy_", 0.0, 1e9, 1e-3, bound_s=None, limit=None))
    ceilings = (
        UsedCeiling(
            quantity="matrix",
            precision="bf16",
            value=PEAK,
            unit="FLOP/s",
            source="published: made up",
        ),
        UsedCeiling(
            quantity="memory",
            precision="",
            value=BANDWIDTH,
            unit="bytes/s",
            source="measured: made up",
        ),
    )
    lacking = CannotTell(claim="shares of measured ceilings", why=names[0], remedy=names[-1])
    return RunRoofline(
        schema_version=1,
        device_kind="cuda",
        device_name="Abacus",
        analysed_ranks=tuple(range(ranks)),
        world_size=ranks,
        ceilings=ceilings if placed else (),
        points=tuple(points),
        uncosted=(),
        costed_share=0.9,
        ranks=tuple(step(rank, placed=placed) for rank in range(ranks)),
        utilization=_utilization() if placed else (),
        network=(_ridge(placed=placed),),
        findings=(f"{names[0]} reached 120% of its roof", f"{names[0]} reached 118% of its roof")
        if placed
        else (),
        cannot_tell=(lacking,),
        modules=(
            ModulePoint(
                name=names[0], time_s=0.01, flop=1e12, executed_flop=1e12, bytes=1e9, bound_s=None
            ),
        ),
    )


def _utilization() -> tuple[Utilization, ...]:
    return (
        Utilization(
            convention="executed",
            counts="executed matrix products",
            flop_per_step=8e12,
            step_s=0.05,
            peak_flop_per_s=2 * PEAK,
            peak_source="published: made up",
            share=0.08,
        ),
    )


def _ridge(*, placed: bool) -> NetworkRidge:
    return NetworkRidge(
        level="intra-node",
        intensity=4000.0,
        ridge=PEAK / LINK if placed else None,
        work_factor=2.5 if placed else None,
        critical_tokens=None,
        tokens=8192.0,
        doubled_ranks_factor=1.5,
        limit_factor=2.0,
    )


def memory(ranks: int) -> tuple[r.RankMemory, ...]:
    """Ranks whose memory rises and falls; the last one grows."""
    return tuple(
        r.RankMemory(
            rank=rank,
            device=f"cuda:{rank}",
            peak_allocated_bytes=(6 + rank) << 30,
            peak_reserved_bytes=12 << 30,
            peak_step=12 if rank else None,
            retries=2 if rank else None,
            growth_bytes_per_step=float(1 << 20) if rank == ranks - 1 else 0.0,
            samples=400,
            series=tuple(
                r.MemoryPoint(
                    at_ms=float(at),
                    allocated_bytes=(2 + rank + at % 5) << 30,
                    reserved_bytes=12 << 30,
                )
                for at in range(20)
            ),
        )
        for rank in range(ranks)
    )

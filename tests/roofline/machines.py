"""Ceilings of machines that do not exist, with round numbers."""

from collections.abc import Mapping

from perfkit.roofline.ceilings import (
    CachePoint,
    Ceiling,
    Ceilings,
    Machine,
    NetworkCeiling,
    Roofs,
)

GIB = 1 << 30


def ceilings(
    *,
    matrix: Mapping[str, float] | None = None,
    copy: float | None = 100e9,
    launch_s: float | None = None,
    cached: Mapping[int, float] | None = None,
    cache_bytes: int | None = 1 << 20,
    network: Mapping[int, float] | None = None,
    device_kind: str = "cpu",
) -> Ceilings:
    """1 TFLOP/s in fp32 and 100 GB/s unless told otherwise; network: bandwidth by nodes."""
    found = [
        Ceiling(quantity="matrix", precision=p, value=v, unit="FLOP/s", method="made up")
        for p, v in (matrix or {"fp32": 1e12}).items()
    ]
    if copy:
        found.append(Ceiling(quantity="copy", value=copy, unit="bytes/s", method="made up"))
    if launch_s:
        found.append(Ceiling(quantity="launch", value=launch_s, unit="s", method="made up"))
    return Ceilings(
        schema_version=1,
        machine=Machine(
            device_kind=device_kind,
            device_name="Abacus",
            memory_bytes=GIB,
            threads=1,
            host="Abacus",
            torch="2.13",
            last_level_cache_bytes=cache_bytes,
        ),
        measured_utc="2026-01-01T00:00:00+00:00",
        quick=True,
        ceilings=tuple(found),
        copy_by_working_set=tuple(
            CachePoint(working_set_bytes=size, bytes_per_s=speed)
            for size, speed in (cached or {}).items()
        ),
        network=tuple(
            NetworkCeiling(
                collective="all_reduce",
                backend="gloo",
                ranks=2,
                nodes=nodes,
                bus_bytes_per_s=speed,
                alpha_s=1e-4,
                method="made up",
            )
            for nodes, speed in (network or {}).items()
        ),
    )


def roofs(measured: Ceilings | None = None) -> Roofs:
    """Roofs of a made-up machine without published peaks."""
    return Roofs(measured or ceilings())

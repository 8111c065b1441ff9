"""Measured runs of series whose truth is known, for the tests of scaling."""

from collections.abc import Mapping, Sequence
from typing import Any

from perfkit.analyzers.alphabeta import Observation
from perfkit.analyzers.result import Blame
from perfkit.analyzers.scaling_runs import MeasuredRun
from perfkit.analyzers.traffic import Message, Traffic
from perfkit.roofline.collective_cost import Link, ring_s

MIB = 1 << 20
LINK = Link(alpha_s=1e-4, bandwidth_byte_per_s=1e9)
SIZES = (4 * MIB, MIB)


def measured(
    ranks: int,
    classes: Mapping[str, float],
    *,
    samples: float = 64.0,
    name: str = "",
    blame: Sequence[Blame] = (),
    compute_ms: Sequence[float] = (),
    **other: Any,
) -> MeasuredRun:
    """Return a run whose step is the sum of its classes."""
    facts: dict[str, Any] = {
        "nodes": 1,
        "tokens_per_step": None,
        "skew_sd_ms": None,
        "placements": ("one node",),
        "factors": {},
        "cores": 64,
        "oversubscribed": False,
        "threads": 1,
        "command": "train.py",
        "model": "GPT",
        "dtypes": ("float32",),
        "step_ms": sum(classes.values()),
    }
    return MeasuredRun(
        name=name or f"run{ranks}",
        ranks=ranks,
        samples_per_step=samples,
        classes_ms=dict(classes),
        blame=tuple(blame),
        compute_ms=tuple(compute_ms),
        **(facts | other),
    )


def ring_run(
    ranks: int,
    *,
    compute_ms: float = 800.0,
    serial_ms: float = 20.0,
    weak: bool = False,
    name: str = "",
    factor: float = 1.0,
    **other: Any,
) -> MeasuredRun:
    """Return a run that follows the physics model exactly: two all-reduces after the backward."""
    classes = {
        "compute": compute_ms if weak else compute_ms / ranks,
        "host_launch": serial_ms,
        "comm_transfer": sum(transfers_s(ranks)) * 1e3,
    }
    return measured(
        ranks,
        {key: ms * factor for key, ms in classes.items()},
        samples=64.0 * ranks if weak else 64.0,
        name=name,
        **other,
    )


def transfers_s(ranks: int, link: Link = LINK) -> list[float]:
    """Return the time of each all-reduce of a step."""
    return [ring_s("all_reduce", size, ranks, link) for size in SIZES]


def traffic(run: MeasuredRun) -> Traffic:
    """Return what the ranks of a `ring_run` sent."""
    seconds = transfers_s(run.ranks)
    return Traffic(
        messages=tuple(Message(op="all_reduce", size_bytes=size, ready_s=0.0) for size in SIZES),
        transfers=tuple(
            Observation(op="all_reduce", ranks=run.ranks, size_bytes=size, transfer_s=time)
            for size, time in zip(SIZES, seconds, strict=True)
        ),
        busy_ms_per_step=sum(seconds) * 1e3,
    )

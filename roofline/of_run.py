"""The roofline of a run: place every rank, one in memory at a time, and put them together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from perfkit.errors import InputError
from perfkit.roofline.ceilings import Ceilings, Roofs
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.hardware import Hardware, find
from perfkit.roofline.network import Sharding
from perfkit.roofline.place import Placement, place
from perfkit.roofline.step import StepRoofline, step_roofline
from perfkit.roofline.summary import Ranks, RunRoofline, summarize
from perfkit.trace.model import NONE, DeviceFacts, RankRecord, RankTrace, Run

Load = Callable[[RankRecord], RankTrace]


@dataclass(slots=True)
class _Gathered:
    placements: list[Placement]
    steps: list[StepRoofline]
    kind: str = ""
    has_shapes: bool = False
    missing: str = ""
    hardware: Hardware | None = None


def roofline_of(run: Run, load: Load, measured: Ceilings | None) -> RunRoofline:
    """Place all ranks of a run under measured ceilings, published ones behind them.

    Raises InputError if the ceilings belong to another kind of device, or nothing was captured.
    """
    nodes = _nodes(run)
    found = _Gathered([], [])
    for record in run.ranks:
        trace = load(record)
        if len(trace.events) == 0:
            continue
        hardware, missing = _published(trace)
        _check(measured, trace)
        roofs = Roofs(measured, hardware)
        placement = place(trace, roofs)
        found.placements.append(placement)
        found.steps.append(step_roofline(trace, placement, roofs, nodes))
        if not found.kind:
            found.kind, found.missing, found.hardware = trace.device_kind, missing, hardware
        found.has_shapes = found.has_shapes or trace.has_shapes
    if not found.placements:
        raise InputError(
            "no rank of this run has a trace", hint="capture a window: perfkit profile --window A:B"
        )
    ranks = Ranks(
        placements=found.placements,
        steps=found.steps,
        device_kind=found.kind,
        world_size=run.world_size,
        configuration=configuration_of(run),
        has_shapes=found.has_shapes,
        unprofiled_step_s=unprofiled_step_s(run),
    )
    return summarize(ranks, Roofs(measured, found.hardware), found.missing)


def _published(trace: RankTrace) -> tuple[Hardware | None, str]:
    if trace.device_kind == "cpu":
        return None, ""
    device = _device(trace)
    if device is None:
        return None, "the capture records no device properties"
    lookup = find(device)
    return lookup.hardware, lookup.reason


def _device(trace: RankTrace) -> DeviceFacts | None:
    if trace.device == NONE:
        return None
    return next((one for one in trace.devices if one.index == trace.device), None)


def _check(measured: Ceilings | None, trace: RankTrace) -> None:
    """Refuse ceilings of another kind of device: every share would be wrong."""
    if measured is None:
        return
    device = _device(trace)
    theirs = (measured.machine.device_kind, measured.machine.device_name)
    ours = (trace.device_kind, device.name if device else measured.machine.device_name)
    if theirs != ours:
        raise InputError(
            f"the ceilings are of {theirs[1]} ({theirs[0]}), rank {trace.rank} ran on "
            f"{ours[1] if device else 'a'} ({ours[0]}) device",
            hint="measure them on the run's machine: perfkit ceilings --out FILE",
        )


def _nodes(run: Run) -> Mapping[int, str]:
    """Where each rank ran: its launching parent's node, else the node that it names."""
    named: dict[int, str] = {}
    for record in run.ranks:
        node = record.facts.get("parent_node") or record.facts.get("node")
        if isinstance(node, str) and node:
            named[record.rank] = node
    return named


def configuration_of(run: Run) -> Configuration:
    """Model size, sharding and tokens per step, from what the first rank recorded."""
    if not run.ranks:
        return Configuration()
    first = run.ranks[0]
    model = first.facts.get("model")
    if not isinstance(model, dict) or "ddp" not in first.facts:
        return Configuration(ranks=max(run.world_size, 1))
    parameters = model.get("parameters")
    gradients = model.get("gradient_bytes")
    if not isinstance(parameters, int) or parameters <= 0:
        return Configuration(ranks=max(run.world_size, 1))
    return Configuration(
        parameters=float(parameters),
        sharding=Sharding.DDP,
        gradient_item_bytes=gradients / parameters if isinstance(gradients, int) else None,
        ranks=max(run.world_size, 1),
        tokens_per_rank=_tokens(first),
    )


def _tokens(record: RankRecord) -> float | None:
    known = record.lines.tokens[record.lines.tokens > 0]
    return float(np.median(known)) if len(known) else None


def unprofiled_step_s(run: Run) -> float | None:
    """Median over unprofiled steps of the slowest rank's time; None where there are none."""
    slowest: dict[int, int] = {}
    for record in run.ranks:
        lines = record.lines
        steady = ~lines.profiled & ~lines.has_eval & (lines.index > 0)
        taken = lines.end_ns - lines.start_ns
        for index, ns in zip(lines.index[steady].tolist(), taken[steady].tolist(), strict=True):
            slowest[index] = max(slowest.get(index, 0), ns)
    return float(np.median(list(slowest.values()))) / 1e9 if slowest else None

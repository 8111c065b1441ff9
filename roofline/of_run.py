"""The roofline of a run: place every rank, one in memory at a time, and put them together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.errors import InputError
from perfkit.roofline.ceilings import Ceilings, Roofs
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.hardware import Hardware, find
from perfkit.roofline.network import Sharding
from perfkit.roofline.place import Placement, analysed_steps, place
from perfkit.roofline.step import StepRoofline, step_roofline
from perfkit.roofline.summary import Ranks, RunRoofline, summarize
from perfkit.trace.model import NONE, DeviceFacts, RankRecord, RankTrace, Run, StepLines

Load = Callable[[RankRecord], RankTrace]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRank:
    """One rank under its roofs, small enough to keep while other ranks load."""

    placement: Placement
    step: StepRoofline
    device_kind: str
    has_shapes: bool
    hardware: Hardware | None
    missing: str  # why there are no published peaks, "" if there are


def roofline_of(run: Run, load: Load, measured: Ceilings | None) -> RunRoofline:
    """Place all ranks of a run under measured ceilings, published ones behind them.

    Raises InputError if the ceilings belong to another kind of device, or nothing was captured.
    """
    nodes = nodes_of(run)
    placed = []
    for record in run.ranks:
        trace = load(record)
        reason = misfit(measured, trace)
        if reason:
            raise InputError(
                reason, hint="measure them on the run's machine: perfkit ceilings --out FILE"
            )
        found = place_rank(trace, record.lines, measured, nodes)
        placed += [found] if found is not None else []
    if not placed:
        raise InputError(
            "no rank of this run has a trace", hint="capture a window: perfkit profile --window A:B"
        )
    return join_ranks(run, placed, measured)


def place_rank(
    trace: RankTrace, lines: StepLines, measured: Ceilings | None, nodes: Mapping[int, str]
) -> PlacedRank | None:
    """Place one rank; None if its trace is empty. nodes: where each rank ran (`nodes_of`).

    Steps that the step lines know to hold an evaluation are left out, as in the budget.
    """
    if len(trace.events) == 0:
        return None
    hardware, missing = _published(trace)
    roofs = Roofs(measured, hardware)
    evaluating = set(lines.index[lines.has_eval].tolist())
    steps = [step for step in analysed_steps(trace) if step not in evaluating]
    placement = place(trace, roofs, steps or None)
    return PlacedRank(
        placement=placement,
        step=step_roofline(trace, placement, roofs, nodes),
        device_kind=trace.device_kind,
        has_shapes=trace.has_shapes,
        hardware=hardware,
        missing=missing,
    )


def join_ranks(
    run: Run,
    placed: Sequence[PlacedRank],
    measured: Ceilings | None,
    misfits: Sequence[str] = (),
) -> RunRoofline:
    """Put at least one placed rank together; device and published peaks are the first one's.

    misfits: why measured ceilings that were given could not be used.
    """
    first = placed[0]
    ranks = Ranks(
        placements=[one.placement for one in placed],
        steps=[one.step for one in placed],
        device_kind=first.device_kind,
        world_size=run.world_size,
        configuration=configuration_of(run),
        has_shapes=any(one.has_shapes for one in placed),
        unprofiled_step_s=unprofiled_step_s(run),
    )
    missing = "; ".join(misfits) or first.missing
    return summarize(ranks, Roofs(measured, first.hardware), missing)


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


def misfit(measured: Ceilings | None, trace: RankTrace) -> str:
    """Say why ceilings are not of this rank's device, so that every share would be wrong; or ""."""
    if measured is None:
        return ""
    device = _device(trace)
    theirs = (measured.machine.device_kind, measured.machine.device_name)
    ours = (trace.device_kind, device.name if device else measured.machine.device_name)
    if theirs == ours:
        return ""
    return (
        f"the ceilings are of {theirs[1]} ({theirs[0]}), rank {trace.rank} ran on "
        f"{ours[1] if device else 'a'} ({ours[0]}) device"
    )


def nodes_of(run: Run) -> Mapping[int, str]:
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

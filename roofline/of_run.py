"""The roofline of a run: place every rank, one in memory at a time, and put them together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfkit.errors import InputError
from perfkit.roofline.architecture import Architecture, read_architecture
from perfkit.roofline.ceilings import Ceilings, Roofs
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.hardware import Hardware, find
from perfkit.roofline.network import Sharding
from perfkit.roofline.parallel import parallelism_of
from perfkit.roofline.place import Placement, analysed_steps, place
from perfkit.roofline.step import StepRoofline, step_roofline
from perfkit.roofline.summary import Ranks, RunRoofline, summarize
from perfkit.roofline.threads import Peak, ceilings_of, not_measured, shared_peak, threads_of
from perfkit.roofline.traffic import GroupTraffic, group_traffic
from perfkit.roofline.utilization import NOTHING_GIVEN, GivenSizes
from perfkit.trace.model import NONE, DeviceFacts, RankRecord, RankTrace, Run, StepLines

Load = Callable[[RankRecord], RankTrace]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRank:
    """One rank under its roofs, small enough to keep while other ranks load."""

    placement: Placement
    step: StepRoofline
    architecture: Architecture
    traffic: tuple[GroupTraffic, ...]
    machine: str  # clock domain: ranks that share it share a CPU
    device_kind: str
    has_shapes: bool
    hardware: Hardware | None
    missing: str  # why there are no published peaks, "" if there are


def roofline_of(
    run: Run, load: Load, measured: Ceilings | None, given: GivenSizes = NOTHING_GIVEN
) -> RunRoofline:
    """Place all ranks of a run under measured ceilings, published ones behind them.

    given: sizes of the transformer that stand before those that the capture shows. Raises
    InputError if the ceilings belong to another device or CPU, or nothing was captured.
    """
    nodes, threads = nodes_of(run), threads_of(run)
    placed = []
    for record in run.ranks:
        trace = load(record)
        reason = host_misfit(measured, run) or misfit(measured, trace)
        if reason:
            raise InputError(
                reason, hint="measure them on the run's machine: perfkit ceilings --out FILE"
            )
        held = ceilings_of(measured, threads, record.rank)
        found = place_rank(trace, record.lines, held, nodes)
        placed += [found] if found is not None else []
    if not placed:
        raise InputError(
            "no rank of this run has a trace", hint="capture a window: perfkit profile --window A:B"
        )
    return join_ranks(run, placed, measured, given=given)


def place_rank(
    trace: RankTrace, lines: StepLines, measured: Ceilings | None, nodes: Mapping[int, str]
) -> PlacedRank | None:
    """Place one rank; None if its trace is empty. nodes: where each rank ran (`nodes_of`).

    measured: for as many threads as the rank computed with (`ceilings_of`).
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
        architecture=read_architecture(trace, placement.steps),
        traffic=group_traffic(trace, placement.steps, nodes),
        machine=trace.clock_domain,
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
    given: GivenSizes = NOTHING_GIVEN,
) -> RunRoofline:
    """Put at least one placed rank together; device and published peaks are the first one's.

    misfits: why measured ceilings that were given could not be used. Ranks on one CPU share it.
    """
    first = placed[0]
    on_cpu = first.device_kind == "cpu"
    analysed = [one.placement.rank for one in placed]
    peak = _peak(run, placed, measured) if on_cpu else None
    ranks = Ranks(
        placements=[one.placement for one in placed],
        steps=[one.step for one in placed],
        device_kind=first.device_kind,
        world_size=run.world_size,
        configuration=configuration_of(run, placed),
        has_shapes=any(one.has_shapes for one in placed),
        unprofiled_step_s=unprofiled_step_s(run),
        architectures=[one.architecture for one in placed],
        given=given,
        peak=peak,
        unchecked=_unchecked(run) if on_cpu else "",
        not_measured=not_measured(run, analysed, measured) if on_cpu else None,
    )
    missing = "; ".join(misfits) or first.missing
    held = ceilings_of(measured, threads_of(run), analysed[0])
    return summarize(ranks, Roofs(held, first.hardware), missing)


def _peak(run: Run, placed: Sequence[PlacedRank], measured: Ceilings | None) -> Peak:
    ranks: dict[str, list[int]] = {}
    for one in placed:
        ranks.setdefault(one.machine, []).append(one.placement.rank)
    return shared_peak(run, ranks, measured)


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
    if device is not None:
        where = f"{device.name or 'a device without a name'} ({ours[0]})"
    else:
        where = "a CPU" if ours[0] == "cpu" else f"a {ours[0]} device"
    return f"the ceilings are of {theirs[1]} ({theirs[0]}), rank {trace.rank} ran on {where}"


def nodes_of(run: Run) -> Mapping[int, str]:
    """Where each rank ran: its launching parent's node, else the node that it names."""
    named: dict[int, str] = {}
    for record in run.ranks:
        node = record.facts.get("parent_node") or record.facts.get("node")
        if isinstance(node, str) and node:
            named[record.rank] = node
    return named


def host_misfit(measured: Ceilings | None, run: Run) -> str:
    """Say why ceilings of a CPU are not of the CPUs that the run recorded; or ""."""
    if measured is None or measured.machine.device_kind != "cpu":
        return ""
    theirs = measured.machine.host
    for node, model in _cpu_models(run).items():
        if model != theirs:
            return f"the ceilings are of another CPU ({theirs}): node {node} has {model}"
    return ""


def _cpu_models(run: Run) -> Mapping[str, str]:
    models = ((node.node, node.facts.get("cpu_model")) for node in run.nodes)
    return {node: model for node, model in models if isinstance(model, str) and model}


def _unchecked(run: Run) -> str:
    return "" if _cpu_models(run) else "the capture records no CPU model to compare with theirs"


def configuration_of(run: Run, placed: Sequence[PlacedRank]) -> Configuration:
    """Model size, parallelism and tokens per step: the first rank's facts, lines and traffic."""
    first = run.ranks[0]
    ddp = "ddp" in first.facts
    traffic = max((one.traffic for one in placed), key=len)
    parallelism = parallelism_of(traffic, ddp=ddp)
    found = Configuration(
        tokens_per_rank=_tokens(first),
        micro_batches=_micro_batches(first),
        parallelism=parallelism,
    )
    return replace(found, parameters=_parameters(first, found))


def _parameters(record: RankRecord, found: Configuration) -> float | None:
    """Parameters that a rank computes with; None where only parts of them are recorded.

    Fully sharded ranks hold parts, and their gradients tell the whole; the ranks of a tensor group
    may record their own part or the whole.
    """
    if found.tensor is not None:
        return None
    if found.data is not None and found.data.sharding in (Sharding.FSDP, Sharding.ZERO):
        whole = found.data.elements
        return whole / found.micro_batches if whole and found.micro_batches else None
    model = record.facts.get("model")
    parameters = model.get("parameters") if isinstance(model, dict) else None
    return float(parameters) if isinstance(parameters, int) and parameters > 0 else None


def _micro_batches(record: RankRecord) -> float | None:
    """Backward passes per step; None where they are not recorded or differ between steps."""
    lines = record.lines
    counts = np.unique(lines.micro_batches[lines.micro_batches > 0])
    return float(counts[0]) if len(counts) == 1 else None


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

"""The changes that can be asked for: one function each, from its parameter to a Change."""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.graph_pieces import PYTHON
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import I64, Plan, TaskGraph
from perfkit.analyzers.replay_edit import of_kinds, scaled
from perfkit.analyzers.whatif import Change, Setting, with_durations
from perfkit.analyzers.whatif_accumulation import accumulation
from perfkit.analyzers.whatif_buckets import buckets_of
from perfkit.analyzers.whatif_fusion import fused_elementwise
from perfkit.analyzers.whatif_precision import half_precision
from perfkit.analyzers.whatif_transfers import start_up_ns, transfer_tasks
from perfkit.roofline.collective_cost import bus_factor, ring_steps
from perfkit.trace.kinds import TimeClass

HOST_WORK = ("host_launch", PYTHON, "host_gc", "host_alloc", "host_compile")
PER_RANK_WORK = ("compute", "input_wait", "checkpoint", "memcpy", "host_sync", *HOST_WORK)


def network(factor: float) -> Change:
    """A network with `factor` times the bandwidth and the same latency."""

    def edit(setting: Setting) -> Setting | Refusal:
        tasks = transfer_tasks(setting)
        if isinstance(tasks, Refusal):
            return tasks
        duration = setting.work.duration_ns[tasks]
        start = np.minimum(start_up_ns(setting, tasks), duration)
        return with_durations(setting, tasks, start + (duration - start) / factor)

    return Change(
        name=f"network x{factor:g}",
        option=f"--network x{factor:g}",
        assumptions=(
            "only the bandwidth part of each transfer scales (latency from this run's fit, "
            "else taken as zero)",
            "the network, not the CPU, limits the transfers",
            *_HIDDEN,
        ),
        apply=edit,
    )


def compression(factor: float) -> Change:
    """Gradients sent in 1/`factor` of the bytes; encoding is free."""
    plain = network(factor)
    return Change(
        name=f"compression x{factor:g}",
        option=f"--compression x{factor:g}",
        assumptions=("encoding and decoding cost nothing", *plain.assumptions),
        apply=plain.apply,
        recipe="bf16-gradients" if factor == 2 else None,
    )


def more_ranks(ranks: int) -> Change:
    """The same work on each of `ranks` ranks (weak scaling): transfers by the ring's cost."""

    def edit(setting: Setting) -> Setting | Refusal:
        tasks = transfer_tasks(setting)
        if isinstance(tasks, Refusal):
            return tasks
        factor = np.ones(len(tasks))
        for i, number in enumerate(setting.plan.graph.collective[tasks].tolist()):
            move = setting.graph.transfers[number]
            if move.ranks == len(setting.graph.ranks):
                factor[i] = _ring_ratio(setting, move.op, move.size_bytes, move.ranks, ranks)
        return with_durations(setting, tasks, setting.work.duration_ns[tasks] * factor)

    return Change(
        name=f"{ranks} ranks",
        option=f"--ranks {ranks}",
        assumptions=(
            "every rank keeps its work (weak scaling), on links as good as the measured ones",
            "collectives over all ranks cost as a ring; smaller groups keep their size",
            "no more skew between ranks than measured",
        ),
        apply=edit,
    )


def perfect_overlap() -> Change:
    """Nobody waits for a transfer as long as the network keeps up."""

    def edit(setting: Setting) -> Setting | Refusal:
        tasks = transfer_tasks(setting)
        if isinstance(tasks, Refusal):
            return tasks
        return replace(with_durations(setting, tasks, 0.0), hidden=setting.work)

    return Change(
        name="perfect overlap",
        option="--overlap",
        assumptions=("all communication hides behind compute without slowing it",),
        apply=edit,
        last=True,
        recipe="overlap",
    )


def no_stragglers() -> Change:
    """Every rank does the mean work of all, step by step; transfers of a kind take their median."""

    def edit(setting: Setting) -> Setting | Refusal:
        if len(setting.graph.ranks) < 2:
            return Refusal(reason="one rank has nobody to wait for")
        tasks = transfer_tasks(setting)
        if isinstance(tasks, Refusal):
            return tasks
        return _median_transfers(_mean_work(setting), tasks)

    return Change(
        name="no stragglers",
        option="--no-stragglers",
        assumptions=(
            "work is spread evenly: each class of a step takes its mean over the ranks, transfers "
            "of one kind their median (the rule of the OSDI'25 straggler study)",
        ),
        apply=edit,
    )


def no_input_stall() -> Change:
    """A loader that is always ready."""
    note = "batches are ready when asked for"
    return _removed("no input stall", TimeClass.INPUT_WAIT, note, "loader")


def async_checkpoint() -> Change:
    """Checkpoints written beside the training."""
    note = "writing beside the training slows nothing"
    return _removed("async checkpoint", TimeClass.CHECKPOINT, note, "async-checkpoint")


def no_launch_overhead() -> Change:
    """Launches cost nothing: a CUDA graph, or kernels large enough."""

    def edit(setting: Setting) -> Setting | Refusal:
        if not setting.graph.on_device:
            return Refusal(reason="there are no launches on a CPU run")
        return _scale(setting, ("host_launch", "launch_latency"), 0.0)

    note = "operators and calls cost the host nothing; Python between them stays"
    return Change(
        name="launch 0", option="--no-launch", assumptions=(note,), apply=edit, recipe="cuda-graph"
    )


def no_host_syncs() -> Change:
    """The host never waits for the device within the steps."""

    def edit(setting: Setting) -> Setting | Refusal:
        if not setting.graph.on_device:
            return Refusal(reason="a CPU run has no device to wait for")
        graph = setting.plan.graph
        host = {int(r) for r in np.unique(graph.resource[of_kinds(graph, ("host_launch",))])}
        to_host = np.isin(graph.resource[graph.edge_target], list(host))
        from_host = np.isin(graph.resource[graph.edge_source], list(host)) | (
            graph.kind[graph.edge_source] == int(TimeClass.OTHER)
        )
        kept = _without_edges(graph, to_host & ~from_host)
        work = replace(setting.work, lag_ns=setting.work.lag_ns[~(to_host & ~from_host)])
        return _scale(replace(setting, plan=Plan(kept), work=work), ("host_sync",), 0.0)

    note = "nothing that the host reads is needed before the end"
    return Change(
        name="no host syncs",
        option="--no-host-syncs",
        assumptions=(note,),
        apply=edit,
        recipe="no-item",
    )


def faster_compute(factor: float) -> Change:
    """All computation `factor` times as fast, whatever bounds it."""

    def edit(setting: Setting) -> Setting | Refusal:
        return _scale(setting, ("compute",), 1 / factor)

    note = "every operator speeds up alike; memory-bound ones may not"
    return Change(
        name=f"compute x{factor:g}",
        option=f"--compute x{factor:g}",
        assumptions=(note,),
        apply=edit,
    )


_HIDDEN = ("waits for a transfer that never made anybody wait in this capture are unknown",)


def _removed(name: str, kind: TimeClass, note: str, recipe: str) -> Change:
    def edit(setting: Setting) -> Setting | Refusal:
        if not len(of_kinds(setting.plan.graph, (kind.key,))):
            return Refusal(reason=f"the captured steps hold no {kind.key.replace('_', ' ')}")
        return _scale(setting, (kind.key,), 0.0)

    option = "--" + name.replace(" ", "-")
    return Change(name=name, option=option, assumptions=(note,), apply=edit, recipe=recipe)


def _scale(setting: Setting, kinds: tuple[str, ...], factor: float) -> Setting:
    return replace(setting, work=scaled(setting.plan.graph, setting.work, kinds, factor))


def _ring_ratio(setting: Setting, op: str, size: int, now: int, then: int) -> float:
    alpha_s = (setting.network.alpha_s or 0.0) if setting.network else 0.0
    per_byte = 1 / setting.network.bandwidth_byte_per_s if setting.network else 1.0
    try:
        cost = [
            ring_steps(op, n) * alpha_s + bus_factor(op, n) * max(size, 1) * per_byte
            for n in (now, then)
        ]
    except ValueError:
        return 1.0
    return cost[1] / cost[0] if cost[0] > 0 else 1.0


def _mean_work(setting: Setting) -> Setting:
    """Scale each rank's classes of a step to their mean over ranks."""
    graph, duration = setting.plan.graph, setting.work.duration_ns.copy()
    ranks = np.array(setting.graph.ranks)
    step = setting.graph.step_of_task
    for kind in PER_RANK_WORK:
        tasks = of_kinds(graph, (kind,))
        tasks = tasks[step[tasks] >= 0]
        place = np.searchsorted(ranks, graph.rank[tasks])
        spent = np.zeros((len(ranks), len(setting.graph.steps)))
        np.add.at(spent, (place, step[tasks]), duration[tasks])
        mean = spent.mean(axis=0)
        factor = np.divide(mean, spent, out=np.ones_like(spent), where=spent > 0)
        duration[tasks] *= factor[place, step[tasks]]
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _median_transfers(setting: Setting, tasks: I64) -> Setting:
    graph, duration = setting.plan.graph, setting.work.duration_ns.copy()
    kinds: dict[object, list[int]] = {}
    for task, number in zip(tasks.tolist(), graph.collective[tasks].tolist(), strict=True):
        kinds.setdefault(setting.graph.transfers[number], []).append(task)
    for same in kinds.values():
        duration[same] = np.median(duration[same])
    return replace(setting, work=replace(setting.work, duration_ns=duration))


def _without_edges(graph: TaskGraph, dropped: np.ndarray) -> TaskGraph:
    keep = ~dropped
    return replace(
        graph,
        edge_source=graph.edge_source[keep],
        edge_target=graph.edge_target[keep],
        edge_lag_ns=graph.edge_lag_ns[keep],
        edge_kind=graph.edge_kind[keep],
    )


def everything() -> tuple[Change, ...]:
    """Return what `--search` tries: one sensible size of each change."""
    return (
        network(2),
        compression(2),
        perfect_overlap(),
        no_stragglers(),
        no_input_stall(),
        async_checkpoint(),
        no_launch_overhead(),
        no_host_syncs(),
        faster_compute(2),
        half_precision(),
        fused_elementwise(),
        buckets_of(25),
        buckets_of(1),
        accumulation(4),
    )

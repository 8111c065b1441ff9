"""What each machine did while steps ran: who used its processors, whether its GPUs were slowed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from msgspec.structs import replace

from perfkit.analyzers.evidence import fact
from perfkit.analyzers.result_telemetry import GpuLoad, NodeLoad, RankLoad
from perfkit.analyzers.telemetry_series import SLOWED, gpu_points, load_points, points_per_curve
from perfkit.trace.model import Run
from perfkit.trace.telemetry import GpuFacts, GpuSample, RankSample, Sample, Telemetry

POWER_CAP = 0x4
"""Software power cap: usual under full load."""


def node_loads(run: Run) -> tuple[NodeLoad, ...]:
    """Summarise each node's samples within the run's steps; nodes without any are left out.

    Errors of GPUs are those of the whole run.
    """
    begin = min((int(r.lines.start_ns[0]) for r in run.ranks if len(r.lines.index)), default=None)
    end = max((int(r.lines.end_ns[-1]) for r in run.ranks if len(r.lines.index)), default=None)
    if begin is None or end is None:
        return ()
    users = _users(run)
    told = [(r.node, r.telemetry) for r in run.nodes if r.telemetry is not None]
    most = points_per_curve(sum(1 + len(telemetry.gpus) for _, telemetry in told))
    loads = []
    for node, telemetry in told:
        inside = [s for s in telemetry.samples if s.u - s.dt >= begin and s.u <= end]
        if inside:
            load = _with_errors(_load(node, telemetry, inside), telemetry.samples)
            load = _with_ranks(load, telemetry, users)
            loads.append(_with_series(load, inside, begin, most))
    return tuple(loads)


def _users(run: Run) -> dict[str, list[int]]:
    """Return by a GPU's UUID, as torch writes it, the ranks that compute on it."""
    found: dict[str, list[int]] = {}
    for record in run.ranks:
        uuid = fact(record, "device_uuid")
        if uuid:
            found.setdefault(str(uuid).lower(), []).append(record.rank)
    return found


def _with_errors(load: NodeLoad, samples: Sequence[Sample]) -> NodeLoad:
    """Put in the errors of the whole run: one that ends it is told of after the last step."""
    whole: dict[int, list[GpuSample]] = {}
    for sample in samples:
        for gpu in sample.gpus or ():
            whole.setdefault(gpu.index, []).append(gpu)
    gpus = tuple(
        replace(
            gpu,
            xids=tuple(number for s in whole[gpu.index] for number in s.xid),
            new_ecc_errors=_new_errors(whole[gpu.index]),
        )
        for gpu in load.gpus
    )
    return replace(load, gpus=gpus)


def _new_errors(samples: Sequence[GpuSample]) -> int | None:
    errors = [s.ecc for s in samples if s.ecc is not None]
    return errors[-1] - errors[0] if errors else None


def _with_ranks(load: NodeLoad, telemetry: Telemetry, users: Mapping[str, list[int]]) -> NodeLoad:
    """Name the ranks of each GPU; NVML puts "GPU-" before the UUID that torch gives."""
    uuids = {g.index: (g.uuid or "").lower().removeprefix("gpu-") for g in telemetry.gpus}
    gpus = tuple(
        replace(gpu, ranks=tuple(users.get(uuids.get(gpu.index, ""), ()))) for gpu in load.gpus
    )
    return replace(load, gpus=gpus)


def _with_series(load: NodeLoad, samples: Sequence[Sample], begin_ns: int, most: int) -> NodeLoad:
    gpus = tuple(
        replace(gpu, series=gpu_points(samples, gpu.index, begin_ns, most)) for gpu in load.gpus
    )
    return replace(load, gpus=gpus, series=load_points(samples, begin_ns, most))


def _load(node: str, telemetry: Telemetry, samples: Sequence[Sample]) -> NodeLoad:
    def per_ns(pick: Callable[[Sample], int | None]) -> float | None:
        return _rate((pick(s), s.dt) for s in samples)

    busy, own = per_ns(lambda s: s.host.busy_ns), per_ns(lambda s: s.host.own_ns)
    stolen = per_ns(lambda s: s.host.steal_ns)
    free = [s.host.mem_available for s in samples if s.host.mem_available is not None]
    others = None if busy is None or own is None else max(busy - own - (stolen or 0.0), 0.0)
    return NodeLoad(
        node=node,
        samples=len(samples),
        seconds=sum(s.dt for s in samples) / 1e9,
        processors=telemetry.processors,
        busy_cores=busy,
        own_cores=own,
        other_cores=others,
        stolen_cores=stolen,
        least_free_memory_bytes=min(free, default=None),
        disk_read_bytes_per_s=_per_s(per_ns(lambda s: s.host.disk_read)),
        disk_written_bytes_per_s=_per_s(per_ns(lambda s: s.host.disk_written)),
        net_sent_bytes_per_s=_per_s(per_ns(lambda s: s.host.net_sent)),
        net_received_bytes_per_s=_per_s(per_ns(lambda s: s.host.net_received)),
        ranks=tuple(_rank_loads(samples)),
        gpus=tuple(_gpu_loads(telemetry.gpus, samples)),
    )


def _rate(grown: Iterable[tuple[int | None, int]]) -> float | None:
    """Growth per nanosecond over the intervals that have one."""
    known = [(value, span) for value, span in grown if value is not None]
    return sum(v for v, _ in known) / sum(s for _, s in known) if known else None


def _per_s(per_ns: float | None) -> float | None:
    return None if per_ns is None else per_ns * 1e9


def _rank_loads(samples: Sequence[Sample]) -> Iterable[RankLoad]:
    found: dict[int, list[tuple[RankSample, int]]] = {}
    for sample in samples:
        for own in sample.ranks:
            found.setdefault(own.rank, []).append((own, sample.dt))
    for rank, seen in sorted(found.items()):
        yield RankLoad(
            rank=rank,
            peak_rss_bytes=max((r.rss for r, _ in seen if r.rss is not None), default=None),
            cpu_cores=_rate((r.cpu_ns, dt) for r, dt in seen),
            queued_share=_rate((r.queued_ns, dt) for r, dt in seen),
        )


def _gpu_loads(facts: Sequence[GpuFacts], samples: Sequence[Sample]) -> Iterable[GpuLoad]:
    found: dict[int, list[GpuSample]] = {}
    for sample in samples:
        for gpu in sample.gpus or ():
            found.setdefault(gpu.index, []).append(gpu)
    known = {fact.index: fact for fact in facts}
    for index, own in sorted(found.items()):
        yield _gpu_load(known.get(index, GpuFacts(index=index)), own)


def _gpu_load(fact: GpuFacts, own: Sequence[GpuSample]) -> GpuLoad:
    reasons = [s.throttle for s in own if s.throttle is not None]
    slow = [s.sm_mhz for s in own if s.sm_mhz is not None and (s.throttle or 0) & SLOWED]
    clocks = _known(s.sm_mhz for s in own)
    return GpuLoad(
        index=fact.index,
        name=fact.name or "",
        utilisation_percent=_mean(_known(s.util for s in own)),
        peak_memory_bytes=max((s.mem_used for s in own if s.mem_used is not None), default=None),
        sm_mhz=median(clocks) if clocks else None,
        max_sm_mhz=fact.max_sm_mhz,
        power_w=_mean(_known(s.power_w for s in own)),
        power_limit_w=fact.power_limit_w,
        peak_temp_c=max(_known(s.temp_c for s in own), default=None),
        slowed_share=_share(reasons, SLOWED),
        power_capped_share=_share(reasons, POWER_CAP),
        slowed_sm_mhz=median(slow) if slow else None,
        new_ecc_errors=None,
        xids=(),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(reasons: list[int], mask: int) -> float | None:
    return sum(bool(r & mask) for r in reasons) / len(reasons) if reasons else None

"""What the network gave in this run, by placement, from its own matched collectives.

One placement at a time: groups within one node, groups across nodes. Calls that are under way
together share the link and count as one burst. Calls that run beside compute
share memory and cores with it, so they are used only where the others do not suffice, and the fit
then says so (models.md 3.4).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from perfkit.analyzers.alphabeta import AlphaBetaFit, Observation, fit_alpha_beta
from perfkit.analyzers.blame import RankView
from perfkit.analyzers.join import Joined
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import CollectiveRow
from perfkit.analyzers.result_network import NetworkFit
from perfkit.roofline.collective_cost import bus_factor, ring_steps, saturation_bytes
from perfkit.trace.intervals import overlap_ns
from perfkit.trace.kinds import TimeClass

RING_OPERATIONS = frozenset({"all_reduce", "all_gather", "reduce_scatter", "all_to_all"})
SATURATED = 0.9
BESIDE_COMPUTE = 0.1
"""A call of which more than this part runs beside compute counts as overlapped."""
MOST_SIZES = 24
DRAWS = 200
ONE_NODE, BETWEEN_NODES = "one node", "between nodes"


@dataclass(frozen=True, slots=True)
class _Seen:
    """One collective as an observation, and whether compute ran beside it."""

    observation: Observation
    group: str
    overlapped: bool


def fit_networks(
    joined: Joined,
    nodes: Mapping[int, str],
    rows: Sequence[CollectiveRow],
    seed: int,
) -> tuple[NetworkFit, ...]:
    """Fit every placement that the run used; `nodes` is where each rank ran."""
    seen = _observe(joined, nodes)
    return tuple(_fit(placement, seen[placement], rows, seed) for placement in sorted(seen))


def _observe(joined: Joined, nodes: Mapping[int, str]) -> dict[str, list[_Seen]]:
    hidden = {rank: _hidden_part(view) for rank, view in joined.views.items()}
    found: dict[str, list[_Seen]] = defaultdict(list)
    for burst in _bursts(joined):
        first = joined.instances[burst[0]]
        spanned = {nodes.get(r, "") for r, _ in first.members}
        observed = _observation(joined, burst)
        if observed is None:
            continue
        members = [m for number in burst for m in joined.instances[number].members]
        found[ONE_NODE if len(spanned) == 1 else BETWEEN_NODES].append(
            _Seen(
                observed,
                first.group.title if first.group is not None else "",
                max(hidden[r][n] for r, n in members) > BESIDE_COMPUTE,
            )
        )
    return dict(found)


def _bursts(joined: Joined) -> list[list[int]]:
    """Chain collectives of the same ranks that are under way at the same time on one of them.

    They share the link (gloo runs two at a time), so that their durations must not be added.
    """
    analysed = frozenset(joined.steps.tolist())  # elsewhere nothing says what runs beside
    open_bursts: dict[tuple[int, ...], list[int]] = {}
    ended: dict[tuple[int, ...], dict[int, int]] = {}
    found: list[list[int]] = []
    for number, instance in enumerate(joined.instances):
        rank, row = instance.members[0]
        if not joined.times.known[number] or len(instance.members) < 2:
            continue
        if int(joined.views[rank].calls.step[row]) not in analysed:
            continue
        ranks = tuple(r for r, _ in instance.members)
        spans = {r: _span(joined, r, n) for r, n in instance.members}
        last = ended.get(ranks, {})
        if not any(start < last.get(r, start) for r, (start, _) in spans.items()):
            open_bursts[ranks] = []
            found.append(open_bursts[ranks])
        open_bursts[ranks].append(number)
        ended[ranks] = {r: max(end, last.get(r, end)) for r, (_, end) in spans.items()}
    return found


def _span(joined: Joined, rank: int, row: int) -> tuple[int, int]:
    calls = joined.views[rank].calls
    return int(calls.start_ns[row]), int(calls.end_ns[row])


def _observation(joined: Joined, burst: Sequence[int]) -> Observation | None:
    """Return a burst as one observation: all its bytes, and the shortest stay of any rank."""
    instances = [joined.instances[number] for number in burst]
    rank, _ = instances[0].members[0]
    sizes = [int(joined.views[rank].calls.size_bytes[i.members[0][1]]) for i in instances]
    op = instances[0].op
    if any(i.op != op for i in instances) or op not in RING_OPERATIONS or min(sizes) <= 0:
        return None
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for instance in instances:
        for member, row in instance.members:
            spans[member].append(_span(joined, member, row))
    stays = [max(e for _, e in own) - min(s for s, _ in own) for own in spans.values()]
    return Observation(
        op=op,
        ranks=len(spans),
        size_bytes=sum(sizes),
        transfer_s=min(stays) / 1e9,
        calls=len(burst),
    )


def _hidden_part(view: RankView) -> list[float]:
    """Return for each call of a rank the part of it that runs beside compute."""
    calls = view.calls
    beside = overlap_ns(view.parts.of(TimeClass.COMPUTE), calls.start_ns, calls.end_ns)
    parts: list[float] = (beside / np.maximum(calls.duration_ns, 1)).tolist()
    return parts


def _fit(
    placement: str, seen: Sequence[_Seen], rows: Sequence[CollectiveRow], seed: int
) -> NetworkFit:
    alone = [s for s in seen if not s.overlapped]
    used, fit = alone, _fitted(alone, seed)
    if isinstance(fit, Refusal) or fit.alpha_s is None:
        whole = _fitted(seen, seed)
        better = isinstance(fit, Refusal) or (
            isinstance(whole, AlphaBetaFit) and whole.alpha_s is not None
        )
        if better:
            used, fit = list(seen), whole
    groups = tuple(sorted({s.group for s in seen}))
    ranks = max(s.observation.ranks for s in seen)
    seen_as = NetworkFit(
        placement=placement,
        groups=groups,
        ranks=ranks,
        calls=sum(s.observation.calls for s in used),
        sizes=len({s.observation.size_bytes for s in used}),
        overlapped=any(s.overlapped for s in used),
        refused=str(fit) if isinstance(fit, Refusal) else "",
    )
    return seen_as if isinstance(fit, Refusal) else _filled(seen_as, fit, rows)


def _filled(seen_as: NetworkFit, fit: AlphaBetaFit, rows: Sequence[CollectiveRow]) -> NetworkFit:
    groups, ranks = seen_as.groups, seen_as.ranks
    latency, wire = _parts_ms(fit, [r for r in rows if r.group in groups])
    return replace(
        seen_as,
        alpha_us=_scaled(fit.alpha_s, 1e6),
        alpha_interval_us=_both(fit.alpha_interval_s, 1e6),
        bandwidth_gbyte_per_s=fit.bandwidth_byte_per_s / 1e9,
        bandwidth_interval_gbyte_per_s=_both(fit.bandwidth_interval_byte_per_s, 1e-9),
        valid_from_bytes=fit.smallest_bytes // 4,
        valid_to_bytes=4 * fit.largest_bytes,
        median_residual=fit.median_relative_residual,
        worst_residual=fit.worst_relative_residual,
        saturation_bytes=_saturation(fit, ranks),
        latency_ms=latency,
        wire_ms=wire,
    )


def _fitted(seen: Sequence[_Seen], seed: int) -> AlphaBetaFit | Refusal:
    """Fit at most MOST_SIZES message sizes, evenly chosen from the smallest to the largest."""
    sizes = sorted({s.observation.size_bytes for s in seen})
    if len(sizes) > MOST_SIZES:
        keep = np.unique(np.linspace(0, len(sizes) - 1, MOST_SIZES).astype(int))
        sizes = [sizes[i] for i in keep]
    chosen = frozenset(sizes)
    observed = [s.observation for s in seen if s.observation.size_bytes in chosen]
    return fit_alpha_beta(observed, seed=seed, draws=DRAWS)


def _parts_ms(
    fit: AlphaBetaFit, rows: Sequence[CollectiveRow]
) -> tuple[float | None, float | None]:
    """Return what latency and bytes take of a step's transfers, by the fit."""
    if fit.alpha_s is None:
        return None, None
    latency = wire = 0.0
    for row in rows:
        if row.name in RING_OPERATIONS and row.bytes and row.ranks > 1:
            latency += row.mean_count * ring_steps(row.name, row.ranks) * fit.alpha_s
            wire += row.mean_count * bus_factor(row.name, row.ranks) * row.bytes
    return latency * 1e3, wire / fit.bandwidth_byte_per_s * 1e3


def _saturation(fit: AlphaBetaFit, ranks: int) -> float | None:
    if fit.alpha_s is None:
        return None
    return saturation_bytes("all_reduce", ranks, fit.link(), efficiency=SATURATED)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _both(limits: tuple[float, float] | None, factor: float) -> tuple[float, float] | None:
    return None if limits is None else (limits[0] * factor, limits[1] * factor)


def node_bandwidths(joined: Joined, nodes: Mapping[int, str]) -> dict[str, float]:
    """Return the bus bandwidth (GB/s) of each node's own groups, where the nodes do the same.

    Only operations and sizes that every node's groups have are counted, so that nodes differ by
    their links and not by their messages. The median over calls.
    """
    seen: dict[str, dict[tuple[str, int, int], list[float]]] = defaultdict(dict)
    for number, instance in enumerate(joined.instances):
        rank, row = instance.members[0]
        size, ranks = int(joined.views[rank].calls.size_bytes[row]), len(instance.members)
        spanned = {nodes.get(r, "") for r, _ in instance.members}
        seconds = float(joined.times.transfer_ns[number]) / 1e9
        if len(spanned) == 1 and instance.op in RING_OPERATIONS and size > 0 and seconds > 0:
            speed = bus_factor(instance.op, ranks) * size / seconds / 1e9
            seen[spanned.pop()].setdefault((instance.op, size, ranks), []).append(speed)
    common = set.intersection(*(set(own) for own in seen.values())) if seen else set()
    return {
        node: float(np.median([np.median(own[kind]) for kind in sorted(common)]))
        for node, own in sorted(seen.items())
        if common
    }

"""What a step's transfers cost most: latency or bytes, by a fit or by what neither can exceed.

Model of a call on a ring (models.md 3.2): T = steps * alpha + k * S / B, so that every call bounds
both parts without a fit: alpha <= T / steps and 1/B <= T / (k S). What one placement's own calls
leave open, the worst network that trainings run on bounds.
"""

from collections.abc import Sequence

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.network_fit import RING_OPERATIONS
from perfkit.analyzers.result import CollectiveRow
from perfkit.roofline.collective_cost import bus_factor, ring_steps

LATENCY, BANDWIDTH = "latency", "bandwidth"
WORST_LATENCY_MS = 5.0
"""Of a ring step: what light needs for 1,000 km of fibre."""
WORST_BYTES_PER_MS = 50e3
"""50 MB/s: a gigabit Ethernet that both directions and another job share."""


def fitted_limit(evidence: Evidence) -> str:
    """Return what most of the transfer time goes into, by the fits; "" where they cannot tell."""
    known = [n for n in evidence.networks if n.latency_ms is not None and n.wire_ms is not None]
    latency = sum(n.latency_ms or 0.0 for n in known)
    wire = sum(n.wire_ms or 0.0 for n in known)
    if not known or len(known) < len(evidence.networks) or latency + wire <= 0:
        return ""
    return LATENCY if latency > wire else BANDWIDTH


def transfer_limit(evidence: Evidence) -> str:
    """Return the same by the fits or, without them, by bounds; "" where both are possible.

    Where latency can take at most half of the time the rest goes into bytes, and vice versa. Where
    neither can take half, something else does (contention, a stalled sender): "" too.
    """
    if fitted := fitted_limit(evidence):
        return fitted
    total = sum(map(transfer_ms, evidence.collectives))
    latency = wire = 0.0
    for rows in _placements(evidence):
        most = sum(map(transfer_ms, rows))
        latency += min(most, _latency_at_most_ms(rows))
        wire += min(most, _wire_at_most_ms(rows))
    few_latency, few_wire = latency < 0.5 * total, wire < 0.5 * total
    if few_latency == few_wire:
        return ""
    return BANDWIDTH if few_latency else LATENCY


def transfer_ms(row: CollectiveRow) -> float:
    """Return the time of these transfers in a step, mean over all ranks, hidden or not."""
    return (row.transfer_ms or 0.0) * row.mean_count


def _placements(evidence: Evidence) -> list[list[CollectiveRow]]:
    """Return the rows that share one network each, and those of which that is not known alone."""
    parts = [
        [row for row in evidence.collectives if row.group in network.groups]
        for network in evidence.networks
    ]
    known = {group for network in evidence.networks for group in network.groups}
    return [*parts, *([row] for row in evidence.collectives if row.group not in known)]


def _latency_at_most_ms(rows: Sequence[CollectiveRow]) -> float:
    seen = [
        (row.transfer_ms or 0.0) / _steps(row) for row in rows if row.transfer_ms and _rings(row)
    ]
    alpha = min([WORST_LATENCY_MS, *seen])
    return sum(row.mean_count * _steps(row) * alpha for row in rows)


def _wire_at_most_ms(rows: Sequence[CollectiveRow]) -> float:
    seen = [_wire_bytes(row) / row.transfer_ms for row in rows if row.transfer_ms and _rings(row)]
    bytes_per_ms = max([WORST_BYTES_PER_MS, *seen])
    return sum(row.mean_count * _wire_bytes(row) for row in rows) / bytes_per_ms


def _rings(row: CollectiveRow) -> bool:
    """Whether no rank can leave before it has sent and received everything."""
    return row.name in RING_OPERATIONS and row.ranks > 1


def _steps(row: CollectiveRow) -> int:
    """Return the ring steps of a call; a barrier's and an unknown operation's count as a ring's."""
    try:
        return ring_steps(row.name, row.ranks)
    except ValueError:
        return max(row.ranks - 1, 0)


def _wire_bytes(row: CollectiveRow) -> float:
    try:
        return bus_factor(row.name, row.ranks) * (row.bytes or 0)
    except ValueError:
        return float(row.bytes or 0)

"""From the raw sizes and times of a collective sweep to a network ceiling."""

import statistics
from collections.abc import Sequence

from perfkit import units
from perfkit.roofline.ceilings import CollectivePoint, NetworkCeiling
from perfkit.roofline.collective_cost import bus_factor

LARGEST = 3


def network_ceiling(
    collective: str, backend: str, points: Sequence[CollectivePoint], *, ranks: int, nodes: int
) -> NetworkCeiling:
    """Bus bandwidth: median over the three largest sizes. alpha: what the smallest takes beyond it.

    points: at least one, S of nccl-tests and seconds per call. The seconds must be positive.
    """
    ordered = sorted(points, key=lambda point: point.bytes)
    factor = bus_factor(collective, ranks)
    bandwidth = statistics.median(factor * p.bytes / p.seconds for p in ordered[-LARGEST:])
    smallest = ordered[0]
    carried = factor * smallest.bytes / bandwidth if bandwidth else 0.0
    sizes = f"{units.size(ordered[0].bytes)} to {units.size(ordered[-1].bytes)}"
    where = "within a node" if nodes == 1 else f"on {nodes} nodes"
    return NetworkCeiling(
        collective=collective,
        backend=backend,
        ranks=ranks,
        nodes=nodes,
        bus_bytes_per_s=bandwidth,
        alpha_s=max(smallest.seconds - carried, 0.0),
        method=f"{backend} {collective} over {ranks} ranks {where}, {sizes}",
        points=tuple(ordered),
    )

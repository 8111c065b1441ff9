"""What a collective costs on a network: alpha-beta(-gamma) models and nccl-tests' bus factors.

Sizes follow nccl-tests (doc/PERFORMANCE.md): S is the whole array, that is count * element size
for all_reduce, broadcast, reduce and send, and count per rank * ranks * element size for
all_gather, reduce_scatter, all_to_all, gather and scatter. Bandwidths are bytes per second per rank
and direction; 1 GB = 1e9 bytes. Costs assume that all ranks enter together, the algorithm named,
and one uniform link; they say nothing of contention with compute.

Sources: Thakur, Rabenseifner & Gropp 2005; gloo docs/algorithms.md (steps and bytes of each
algorithm); Sanders, Speck & Traeff 2009 (double binary tree).
"""

from dataclasses import dataclass
from math import ceil, log2

ALL_REDUCE = "all_reduce"
_SHARDED = ("reduce_scatter", "all_gather", "all_to_all", "gather", "scatter")
_ROOTED = ("broadcast", "reduce", "send", "recv", "sendrecv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A uniform network: start-up time per step, bandwidth, and time to reduce a byte."""

    alpha_s: float
    bandwidth_byte_per_s: float
    gamma_s_per_byte: float = 0.0

    def __post_init__(self) -> None:
        if self.alpha_s < 0 or self.gamma_s_per_byte < 0 or not self.bandwidth_byte_per_s > 0:
            raise ValueError("alpha and gamma must not be negative, and bandwidth must be positive")


def bus_factor(op: str, ranks: int, *, in_network: bool = False) -> float:
    """Return k with busbw = algbw * k (nccl-tests): the bytes a rank sends per byte of S.

    `in_network` is a reduction in the switch (NVLS, SHARP), for all_reduce only. One rank moves
    nothing, except in a rooted operation, whose factor is 1 by definition. Others: ValueError.
    """
    if ranks < 1:
        raise ValueError(f"a group has at least one rank, not {ranks}")
    if op in _ROOTED:
        return 1.0
    if op == ALL_REDUCE:
        return (ranks - 1) / (ranks + 1) if in_network else 2 * (ranks - 1) / ranks
    if op in _SHARDED:
        return (ranks - 1) / ranks
    raise ValueError(f"no bus factor for a collective named {op!r}")


def ring_steps(op: str, ranks: int) -> int:
    """Return how many latencies a ring (or chain) pays in one call."""
    if ranks < 1:
        raise ValueError(f"a group has at least one rank, not {ranks}")
    if op == ALL_REDUCE:
        return 2 * (ranks - 1)
    if op in _SHARDED:
        return ranks - 1
    if op in ("broadcast", "reduce"):
        return ranks - 1
    if op in _ROOTED:
        return 1
    raise ValueError(f"no ring cost for a collective named {op!r}")


def algorithm_bandwidth_byte_per_s(size_bytes: float, seconds: float) -> float:
    """Return S/t."""
    return size_bytes / seconds


def bus_bandwidth_byte_per_s(op: str, size_bytes: float, ranks: int, seconds: float) -> float:
    """Return S/t * k: comparable with the link's bandwidth whatever the operation."""
    return algorithm_bandwidth_byte_per_s(size_bytes, seconds) * bus_factor(op, ranks)


def ring_s(op: str, size_bytes: float, ranks: int, link: Link) -> float:
    """Return the time of `op` over a bandwidth-optimal ring: steps * alpha + k * S / B.

    Reducing operations add (p-1)/p * S * gamma. Rooted ones are a fully pipelined chain.
    """
    steps, factor = ring_steps(op, ranks), bus_factor(op, ranks)
    if ranks == 1:
        return 0.0
    reduced = size_bytes * (ranks - 1) / ranks if op in (ALL_REDUCE, "reduce_scatter") else 0.0
    wire = factor * size_bytes / link.bandwidth_byte_per_s
    return steps * link.alpha_s + wire + reduced * link.gamma_s_per_byte


def halving_doubling_all_reduce_s(size_bytes: float, ranks: int, link: Link) -> float:
    """Return recursive halving-doubling's time; ValueError unless `ranks` is a power of two."""
    if ranks < 1 or ranks & (ranks - 1):
        raise ValueError(f"halving-doubling needs a power of two, not {ranks} ranks")
    share = (ranks - 1) / ranks * size_bytes
    latency = 2 * log2(ranks) * link.alpha_s
    return latency + 2 * share / link.bandwidth_byte_per_s + share * link.gamma_s_per_byte


def binomial_tree_all_reduce_s(size_bytes: float, ranks: int, link: Link) -> float:
    """Return an unpipelined binomial reduce and broadcast: 2 * ceil(log2 p) * (alpha + S/B)."""
    return pipelined_tree_all_reduce_s(size_bytes, ranks, link, chunks=1)


def pipelined_tree_all_reduce_s(size_bytes: float, ranks: int, link: Link, *, chunks: int) -> float:
    """Return a tree's time, the array in chunks: 2 (ceil(log2 p) + c - 1) (alpha + S/cB)."""
    if ranks == 1:
        return 0.0
    step = link.alpha_s + size_bytes / (chunks * link.bandwidth_byte_per_s)
    return 2 * (_levels(ranks) + chunks - 1) * step


def double_binary_tree_all_reduce_s(size_bytes: float, ranks: int, link: Link) -> float:
    """Return NCCL's large-message tree: 2 ceil(log2 p) alpha + 2 S/B (valid when S/B >> alpha)."""
    if ranks == 1:
        return 0.0
    return 2 * _levels(ranks) * link.alpha_s + 2 * size_bytes / link.bandwidth_byte_per_s


def hierarchical_all_reduce_s(
    size_bytes: float, local_ranks: int, nodes: int, intra: Link, inter: Link
) -> float:
    """Return reduce-scatter in the node, all-reduce of S/g between nodes, all-gather in the node.

    Rail-optimised: each of the g local ranks has its own way out of the node.
    """
    local = 2 * ring_s("all_gather", size_bytes, local_ranks, intra)
    return local + ring_s(ALL_REDUCE, size_bytes / local_ranks, nodes, inter)


def broadcast_chain_s(size_bytes: float, ranks: int, link: Link, *, chunks: int) -> float:
    """Return a pipelined chain's time: (p - 2 + c) (alpha + S/cB); c to infinity gives S/B."""
    if ranks == 1:
        return 0.0
    step = link.alpha_s + size_bytes / (chunks * link.bandwidth_byte_per_s)
    return (ranks - 2 + chunks) * step


def broadcast_binomial_s(size_bytes: float, ranks: int, link: Link) -> float:
    """Return ceil(log2 p) * (alpha + S/B)."""
    return _levels(ranks) * point_to_point_s(size_bytes, link)


def point_to_point_s(size_bytes: float, link: Link) -> float:
    """Return alpha + S/B."""
    return link.alpha_s + size_bytes / link.bandwidth_byte_per_s


def barrier_s(ranks: int, link: Link) -> float:
    """Return about ceil(log2 p) * alpha (dissemination barrier)."""
    return _levels(ranks) * link.alpha_s


def gloo_ring_chunked_all_reduce_s(size_bytes: float, ranks: int, link: Link) -> float:
    """Return gloo's allreduce_ring_chunked: 4 P steps and 2 S bytes (gloo docs/algorithms.md)."""
    if ranks == 1:
        return 0.0
    return 4 * ranks * link.alpha_s + 2 * size_bytes / link.bandwidth_byte_per_s


def saturation_bytes(op: str, ranks: int, link: Link, *, efficiency: float) -> float:
    """Return the S at which a ring reaches `efficiency` (between 0 and 1) of its bandwidth.

    S_e = e / (1 - e) * steps * alpha * B / k; for an all-reduce S_1/2 = n alpha B. Below it, fewer
    and larger messages help; above it, only a faster link does. Gamma is left out.
    """
    if not 0 < efficiency < 1:
        raise ValueError(f"an efficiency lies strictly between 0 and 1, not {efficiency}")
    factor = bus_factor(op, ranks)
    if factor == 0:
        return 0.0
    start = ring_steps(op, ranks) * link.alpha_s * link.bandwidth_byte_per_s
    return efficiency / (1 - efficiency) * start / factor


def _levels(ranks: int) -> int:
    if ranks < 1:
        raise ValueError(f"a group has at least one rank, not {ranks}")
    return ceil(log2(ranks))

"""What NCCL itself expects a collective to take, and which algorithm and protocol it would pick.

NCCL's cost model, src/graph/tuning.cc at commit 5067397 (2.28 line):
time = latency * launches + bytes / bandwidth, and the argmin over (algorithm, protocol) runs.
It is a tuner's model, good for the choice and for the order of magnitude; routing, contention
and topology search are not in it. Not covered: CollNet (needs a SHARP plug-in), POWER hosts,
user overrides (NCCL_ALGO, NCCL_PROTO).

The second part holds PyTorch's calibrated link profiles (torch/_inductor/comm_analysis.py, 2.13).
"""

from dataclasses import dataclass
from math import inf

ALGORITHMS = ("tree", "ring", "nvls", "nvls_tree", "pat")
PROTOCOLS = ("LL", "LL128", "Simple")

_BASE_US = {
    "tree": (6.8, 14.0, 8.4),
    "ring": (6.6, 14.0, 8.4),
    "nvls": (0.0, 0.0, 0.0),
    "nvls_tree": (0.0, 0.0, 0.0),
    "pat": (8.0, 8.0, 8.0),
}
_HARDWARE_US = {
    "nvlink": {
        "tree": (0.6, 1.25, 4.0),
        "ring": (0.6, 1.9, 3.4),
        "nvls": (0.0, 0.0, 25.0),
        "nvls_tree": (0.0, 0.0, 25.0),
        "pat": (0.0, 0.0, 4.0),
    },
    "pci": {
        "tree": (1.0, 1.9, 4.0),
        "ring": (1.0, 2.5, 5.7),
        "nvls": (0.0, 0.0, 0.0),
        "nvls_tree": (0.0, 0.0, 0.0),
        "pat": (0.0, 0.0, 4.0),
    },
    "net": {
        "tree": (5.0, 8.5, 14.0),
        "ring": (2.7, 4.0, 14.0),
        "nvls": (0.0, 0.0, 18.0),
        "nvls_tree": (0.0, 0.0, 20.9),
        "pat": (0.0, 0.0, 14.0),
    },
}
# Rows: Volta, Ampere, Hopper, Blackwell. Columns: one node, two nodes, more.
_LL_MAX = ((39.0, 39.0, 20.4), (87.7, 22.5, 19.0), (141.0, 45.0, 35.0), (282.0, 90.0, 70.0))
_RING_LL128_CHANNEL = ((20.0,) * 3, (20.0,) * 3, (36.7,) * 3, (40.0,) * 3)
_TREE_LL128_CHANNEL = ((20.0,) * 3, (20.0,) * 3, (36.7, 36.7, 29.0), (55.6, 31.67, 20.0))
_TREE_CHANNEL = ((26.5, 18.5, 10.0), (24.0, 23.6, 17.8), (38.7, 41.4, 36.0), (70.0, 42.8, 24.0))
_NVLS_TREE_CHANNEL = ((26.5, 18.5, 10.0), (24.0, 23.6, 17.8), (0.0, 57.7, 45.5), (0.0, 96.0, 80.0))
_NVLS_EFFICIENCY = (0.0, 0.0, 0.85, 0.74)
# Powers of two from 64 B: medium sizes, at which trees fall short of the model.
_TREE_CORRECTION = {
    "LL": "1 1 1 1 .9 .8 .7 .7 .7 .7 .6 .5 .4 .4 .5 .6 .7 .8 .9 1 1 1 1 1",
    "LL128": "1 1 1 1 1 .9 .8 .8 .8 .7 .6 .6 .6 .6 .6 .6 .8 .9 .9 .9 .9 1 1 1",
    "Simple": ".9 .9 .9 .9 .9 .9 .9 .8 .7 .6 .6 .5 .5 .5 .5 .6 .7 .8 .7 .7 .8 .9 .9 .9",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What NCCL's topology search found, as far as the tuner uses it."""

    ranks: int
    nodes: int = 1
    intra: str = "nvlink"  # "nvlink" or "pci"
    host_cpu: str = "intel"  # "intel" or "amd"
    compute_capability: int = 90  # 70, 80, 90, 100
    channels: int = 1
    channel_intra_gbyte_per_s: float = 20.0
    channel_inter_gbyte_per_s: float = 20.0
    latency_inter_us: float = 0.0
    nvls: bool = False  # multicast through NVSwitch is available
    same_channels: bool = True

    def __post_init__(self) -> None:
        if self.ranks < 2 or self.nodes < 1 or self.ranks % self.nodes:
            raise ValueError(f"{self.ranks} ranks do not spread evenly over {self.nodes} nodes")
        if self.intra not in ("nvlink", "pci") or self.host_cpu not in ("intel", "amd"):
            raise ValueError(f"unknown link {self.intra!r} or host {self.host_cpu!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The algorithm and protocol with the least expected time."""

    algorithm: str
    protocol: str
    time_us: float


def latency_us(op: str, algorithm: str, protocol: str, topology: Topology) -> float:
    """Return NCCL's start-up latency of one call, whatever its size."""
    p = PROTOCOLS.index(protocol)
    base, intra = _BASE_US[algorithm][p], _HARDWARE_US[topology.intra][algorithm][p]
    if algorithm == "ring":
        return base + _ring_latency_us(op, p, topology)
    inter = _inter_latency_us(algorithm, p, topology)
    per_node, hops = topology.ranks // topology.nodes, _log2(topology.nodes)
    if algorithm == "tree":
        return base + 2 * ((per_node - 1) * intra + hops * inter)
    if algorithm == "nvls":
        return intra + (inter if topology.nodes > 1 else 0.0)
    if algorithm == "nvls_tree":
        return base + intra + 2 * hops * inter
    return base + hops * (inter / 3.5) + topology.ranks * 2.8


def bandwidth_gbyte_per_s(op: str, algorithm: str, protocol: str, topology: Topology) -> float:
    """Return the bandwidth S/t of a large message; 0 where NCCL would not use the pair."""
    if not _usable(op, algorithm, protocol, topology):
        return 0.0
    bus = _bus_gbyte_per_s(op, algorithm, protocol, topology)
    if algorithm in ("ring", "nvls", "nvls_tree") and not (algorithm != "ring" and _is_shard(op)):
        return bus * topology.ranks / _steps(op, topology.ranks)
    return bus if _is_shard(op) else bus * 0.5


def time_us(op: str, algorithm: str, protocol: str, topology: Topology, size_bytes: float) -> float:
    """Return the expected time of one call; infinite where NCCL would not use the pair.

    `size_bytes` is S of nccl-tests. Corrections for medium trees and multi-node rings included.
    """
    bandwidth = bandwidth_gbyte_per_s(op, algorithm, protocol, topology)
    if bandwidth <= 0:
        return inf
    latency = latency_us(op, algorithm, protocol, topology)
    octave = _log2(int(size_bytes) >> 6)
    if algorithm == "tree" and op == "all_reduce" and 0 <= octave < 23:
        bandwidth *= float(_TREE_CORRECTION[protocol].split()[octave])
    if (
        (algorithm, protocol, op) == ("ring", "Simple", "all_reduce")
        and topology.nodes > 1
        and size_bytes / (topology.channels * topology.ranks) >= 64
    ):
        latency *= 1.9 if topology.compute_capability < 80 else 1.4
    return latency + size_bytes / (1000 * bandwidth)


def choose(op: str, topology: Topology, size_bytes: float) -> Choice:
    """Return the pair that NCCL's tuner would run, with the time that it expects."""
    times = [
        Choice(algorithm=a, protocol=p, time_us=time_us(op, a, p, topology, size_bytes))
        for a in ALGORITHMS
        for p in PROTOCOLS
    ]
    return min(times, key=lambda c: c.time_us)


def _is_shard(op: str) -> bool:
    return op in ("reduce_scatter", "all_gather")


def _steps(op: str, ranks: int) -> int:
    if op == "all_reduce":
        return 2 * (ranks - 1)
    if _is_shard(op):
        return ranks - 1
    if op in ("broadcast", "reduce"):
        return ranks
    raise ValueError(f"NCCL's tuner has no model for {op!r}")


def _log2(value: int) -> int:
    return value.bit_length() - 1


def _inter_latency_us(algorithm: str, p: int, topology: Topology) -> float:
    # With one rank a node nothing hides the wire, so NCCL takes the tree's network latency.
    row = "tree" if topology.ranks == topology.nodes else algorithm
    extra = topology.latency_inter_us * (2 if PROTOCOLS[p] == "Simple" else 1)
    return _HARDWARE_US["net"][row][p] + extra


def _ring_latency_us(op: str, p: int, topology: Topology) -> float:
    steps, single = _steps(op, topology.ranks), topology.nodes == 1
    link = topology.intra if single else "net"
    if op in ("broadcast", "reduce"):
        if topology.same_channels:
            return _HARDWARE_US[link]["ring"][p]
        row = "tree" if PROTOCOLS[p] == "Simple" else "ring"
        return steps * _HARDWARE_US[link][row][p]
    overhead = 0.0
    if not single:
        overhead = 1.0 if topology.host_cpu == "intel" else 2.0
        overhead *= 3 if PROTOCOLS[p] == "Simple" else 1
    intra = max(_HARDWARE_US[topology.intra]["ring"][p], overhead)
    inter_steps = (topology.nodes - 1) * (2 if op == "all_reduce" else 1)
    return (steps - inter_steps) * intra + inter_steps * _inter_latency_us("ring", p, topology)


def _usable(op: str, algorithm: str, protocol: str, topology: Topology) -> bool:
    if op in ("broadcast", "reduce"):
        return algorithm == "ring"
    if algorithm in ("nvls", "nvls_tree", "pat") and protocol != "Simple":
        return False
    multicast = topology.nvls and topology.channels >= 2
    reduces = op == "all_reduce"
    return {
        "ring": True,
        "tree": reduces,
        "nvls": multicast and topology.nodes == 1,  # across nodes it needs CollNet
        "nvls_tree": multicast and topology.nodes > 1 and reduces,
        "pat": _is_shard(op) and topology.ranks == topology.nodes,
    }[algorithm]


def _generation(topology: Topology) -> int:
    return sum(topology.compute_capability >= level for level in (80, 90, 100))


def _bus_gbyte_per_s(op: str, algorithm: str, protocol: str, topology: Topology) -> float:
    column = min(topology.nodes, 3) - 1
    two = topology.nodes <= 2
    per_channel = topology.channel_intra_gbyte_per_s if two else topology.channel_inter_gbyte_per_s
    if algorithm in ("nvls", "nvls_tree"):
        per_channel = _nvls_channel_gbyte_per_s(op, algorithm, topology, column)
    bus = topology.channels * per_channel
    row = _generation(topology)
    # Between nodes NCCL looks at the host's CPU instead of the GPU's generation.
    ll_max = _LL_MAX[row if topology.nodes == 1 else int(topology.host_cpu == "amd")][column]
    if algorithm == "ring" and protocol == "LL":
        return min(ll_max, bus * 0.5)
    if algorithm == "ring" and protocol == "LL128":
        return min(bus * 0.92, topology.channels * _RING_LL128_CHANNEL[row][column])
    if algorithm == "tree":
        return _tree_gbyte_per_s(bus, protocol, topology, ll_max)
    return bus * 0.75 if algorithm == "pat" else bus


def _tree_gbyte_per_s(bus: float, protocol: str, topology: Topology, ll_max: float) -> float:
    row, column = _generation(topology), min(topology.nodes, 3) - 1
    bus = min(bus * 0.92, topology.channels * _TREE_CHANNEL[row][column])
    if protocol == "LL":
        return min(bus / 3.8, ll_max)
    if protocol == "LL128":
        share = 7 / 9 if topology.nodes == 1 else 120 / 128
        return min(bus * share, topology.channels * _TREE_LL128_CHANNEL[row][column])
    return bus


def _nvls_channel_gbyte_per_s(op: str, algorithm: str, topology: Topology, column: int) -> float:
    row, per_node = _generation(topology), topology.ranks / topology.nodes
    intra = topology.channel_intra_gbyte_per_s * _NVLS_EFFICIENCY[row]
    intra *= (topology.channels - 1) / topology.channels
    intra *= 2.0 if op == "all_reduce" else (per_node - 1) / per_node
    double = topology.nodes <= 2 and algorithm == "nvls_tree"
    # On one node the search's "inter" bandwidth is the intra one.
    one = topology.nodes == 1
    inter = topology.channel_intra_gbyte_per_s if one else topology.channel_inter_gbyte_per_s
    inter *= 2 if double else 1
    cap = _NVLS_TREE_CHANNEL[row][column] if algorithm == "nvls_tree" else inf
    return min(intra, inter, cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """PyTorch's calibrated numbers of one interconnect."""

    bus_gbyte_per_s: float
    hop_us: float
    base_us: float
    floor_bytes: int = 0


LINK_PROFILES = {
    "NVLINK_H100": LinkProfile(bus_gbyte_per_s=36.0, hop_us=40.0, base_us=10.0),
    "NVLINK_A100": LinkProfile(bus_gbyte_per_s=22.0, hop_us=45.0, base_us=10.0),
    "NVLINK_B200": LinkProfile(bus_gbyte_per_s=60.0, hop_us=30.0, base_us=10.0),
    "NVLINK_V100": LinkProfile(bus_gbyte_per_s=14.0, hop_us=50.0, base_us=10.0),
    "IB_NDR": LinkProfile(
        bus_gbyte_per_s=22.0, hop_us=12.0, base_us=30.0, floor_bytes=100 * 1024**2
    ),
    "IB_HDR": LinkProfile(
        bus_gbyte_per_s=11.0, hop_us=14.0, base_us=30.0, floor_bytes=75 * 1024**2
    ),
    "PCIE": LinkProfile(bus_gbyte_per_s=10.0, hop_us=60.0, base_us=15.0),
}


def profile_saturation_bytes(profile: LinkProfile, op: str, ranks: int) -> float:
    """Return the message size that reaches 90 % of the profile's bandwidth (torch's rule)."""
    start_us = profile.base_us + _steps(op, ranks) * profile.hop_us
    return max(float(profile.floor_bytes), 9 * start_us * profile.bus_gbyte_per_s * 1e3)

"""NCCL's own model: its latencies, and what its tuner would choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline.nccl_tuner import (
    ALGORITHMS,
    LINK_PROFILES,
    PROTOCOLS,
    Topology,
    bandwidth_gbyte_per_s,
    choose,
    latency_us,
    profile_saturation_bytes,
    time_us,
)

# (ranks, nodes): ring LL, LL128, Simple; tree LL, LL128, Simple (Intel host, NVLink)
LATENCIES = {
    (8, 1): (15.0, 40.6, 56.0, 15.2, 31.5, 64.4),
    (16, 2): (40.0, 75.2, 131.6, 25.2, 48.5, 92.4),
    (64, 8): (156.4, 282.8, 585.2, 45.2, 82.5, 148.4),
}


@pytest.mark.parametrize(("ranks", "nodes"), LATENCIES)
def test_all_reduce_latencies(ranks: int, nodes: int) -> None:
    topology = Topology(ranks=ranks, nodes=nodes)
    seen = [
        latency_us("all_reduce", algorithm, protocol, topology)
        for algorithm in ("ring", "tree")
        for protocol in PROTOCOLS
    ]
    assert seen == pytest.approx(LATENCIES[ranks, nodes], rel=1e-4)


def test_a_ring_moves_its_bus_bandwidth() -> None:
    topology = Topology(ranks=8, channels=12, channel_intra_gbyte_per_s=20)
    simple = bandwidth_gbyte_per_s("all_reduce", "ring", "Simple", topology)
    assert simple * 2 * 7 / 8 == pytest.approx(240)
    gathered = bandwidth_gbyte_per_s("all_gather", "ring", "Simple", topology)
    assert gathered * 7 / 8 == pytest.approx(240)
    assert bandwidth_gbyte_per_s("all_reduce", "ring", "LL", topology) * 1.75 == pytest.approx(120)
    packed = bandwidth_gbyte_per_s("all_reduce", "ring", "LL128", topology)
    assert packed * 1.75 == pytest.approx(0.92 * 240)


def test_in_switch_reduction_beats_the_ring_on_large_messages_of_one_hopper_node() -> None:
    switch = Topology(ranks=8, channels=16, channel_intra_gbyte_per_s=20, nvls=True)
    plain = Topology(ranks=8, channels=16, channel_intra_gbyte_per_s=20)
    assert choose("all_reduce", switch, 1e9).algorithm == "nvls"
    assert choose("all_reduce", plain, 1e9).algorithm == "ring"


def test_small_messages_take_low_latency_and_trees_win_at_scale() -> None:
    wide = Topology(ranks=512, nodes=64, channels=8)
    assert choose("all_reduce", wide, 1024).algorithm == "tree"
    assert choose("all_reduce", wide, 1024).protocol == "LL"
    assert choose("all_reduce", Topology(ranks=8), 1024).protocol == "LL"


def test_broadcast_is_a_ring_and_pat_serves_one_rank_a_node() -> None:
    spread = Topology(ranks=32, nodes=32, channels=8)
    assert choose("broadcast", spread, 1e6).algorithm == "ring"
    assert choose("all_gather", spread, 65536).algorithm == "pat"
    assert time_us("broadcast", "tree", "LL", spread, 1e6) == float("inf")


@given(
    op=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "broadcast"]),
    per_node=st.integers(1, 8),
    nodes=st.integers(1, 64),
    size=st.integers(1, 2**34),
)
def test_the_choice_is_the_least_time_and_times_are_positive(
    op: str, per_node: int, nodes: int, size: int
) -> None:
    if per_node * nodes < 2:
        nodes = 2
    topology = Topology(ranks=per_node * nodes, nodes=nodes, channels=4)
    best = choose(op, topology, size)
    times = [time_us(op, a, p, topology, size) for a in ALGORITHMS for p in PROTOCOLS]
    assert 0 < best.time_us == min(times)


def test_torchs_saturation_size() -> None:
    size = profile_saturation_bytes(LINK_PROFILES["NVLINK_H100"], "all_reduce", 8)
    assert size == pytest.approx(184_680_000)
    floor = profile_saturation_bytes(LINK_PROFILES["IB_NDR"], "all_gather", 2)
    assert floor == 100 * 1024**2


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        Topology(ranks=9, nodes=2)
    with pytest.raises(ValueError, match="no model"):
        time_us("all_to_all", "ring", "LL", Topology(ranks=8), 1.0)

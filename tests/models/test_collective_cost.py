"""Golden costs and the identities that every cost model must keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline import collective_cost as cc
from perfkit.roofline.collective_cost import Link

SIZE = 100 * 1024**2
LINK = Link(alpha_s=5e-6, bandwidth_byte_per_s=100e9)
WIRE = Link(alpha_s=10e-6, bandwidth_byte_per_s=50e9)
NVLINK = Link(alpha_s=3e-6, bandwidth_byte_per_s=300e9)

FACTORS = {2: (1.0, 0.5, 1 / 3), 4: (1.5, 0.75, 0.6), 8: (1.75, 0.875, 0.777778),
           16: (1.875, 0.9375, 0.882353), 32: (1.9375, 0.96875, 0.939394),
           64: (1.96875, 0.984375, 0.969231)}  # fmt: skip


@pytest.mark.parametrize("ranks", FACTORS)
def test_bus_factors_are_those_of_nccl_tests(ranks: int) -> None:
    reduce, shard, switch = FACTORS[ranks]
    assert cc.bus_factor("all_reduce", ranks) == pytest.approx(reduce)
    for op in ("reduce_scatter", "all_gather", "all_to_all", "gather", "scatter"):
        assert cc.bus_factor(op, ranks) == pytest.approx(shard)
    assert cc.bus_factor("all_reduce", ranks, in_network=True) == pytest.approx(switch, rel=1e-5)
    for op in ("broadcast", "reduce", "send", "recv"):
        assert cc.bus_factor(op, ranks) == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (cc.ring_s("all_reduce", SIZE, 8, LINK), 0.00190501),
        (cc.halving_doubling_all_reduce_s(SIZE, 8, LINK), 0.00186501),
        (cc.binomial_tree_all_reduce_s(SIZE, 8, LINK), 0.00632146),
        (cc.ring_s("all_gather", SIZE, 8, LINK), 0.000952504),
        (cc.hierarchical_all_reduce_s(SIZE, 8, 4, NVLINK, WIRE), 0.00110689),
        (cc.ring_s("all_reduce", SIZE, 32, WIRE), 0.00468323),
        (
            cc.ring_s("all_reduce", 1e9, 8, Link(alpha_s=0, bandwidth_byte_per_s=50e9)),
            0.035,  # MLSysBook's worked example
        ),
    ],
)
def test_golden_costs(seconds: float, expected: float) -> None:
    assert seconds == pytest.approx(expected, rel=1e-4)


def test_saturation_sizes() -> None:
    link = Link(alpha_s=4e-6, bandwidth_byte_per_s=150e9)
    assert cc.saturation_bytes("all_reduce", 8, link, efficiency=0.5) == pytest.approx(4.8e6)
    assert cc.saturation_bytes("all_reduce", 8, link, efficiency=0.9) == pytest.approx(4.32e7)
    assert cc.saturation_bytes("all_reduce", 1, link, efficiency=0.9) == 0


@given(
    op=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"]),
    ranks=st.integers(2, 4096),
    efficiency=st.floats(0.05, 0.99),
    alpha=st.floats(1e-7, 1e-3),
)
def test_a_message_of_the_saturation_size_reaches_that_efficiency(
    op: str, ranks: int, efficiency: float, alpha: float
) -> None:
    link = Link(alpha_s=alpha, bandwidth_byte_per_s=1e10)
    size = cc.saturation_bytes(op, ranks, link, efficiency=efficiency)
    seconds = cc.ring_s(op, size, ranks, link)
    reached = cc.bus_bandwidth_byte_per_s(op, size, ranks, seconds) / link.bandwidth_byte_per_s
    assert reached == pytest.approx(efficiency)


@given(ranks=st.integers(2, 1024), size=st.floats(1, 1e10), gamma=st.floats(0, 1e-9))
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather(
    ranks: int, size: float, gamma: float
) -> None:
    link = Link(alpha_s=1e-6, bandwidth_byte_per_s=1e10, gamma_s_per_byte=gamma)
    parts = cc.ring_s("reduce_scatter", size, ranks, link) + cc.ring_s(
        "all_gather", size, ranks, link
    )
    assert cc.ring_s("all_reduce", size, ranks, link) == pytest.approx(parts)


@given(exponent=st.integers(0, 12), size=st.floats(1, 1e10))
def test_halving_doubling_never_loses_to_the_ring(exponent: int, size: float) -> None:
    ranks = 2**exponent
    halving = cc.halving_doubling_all_reduce_s(size, ranks, LINK)
    assert halving <= cc.ring_s("all_reduce", size, ranks, LINK) * (1 + 1e-12)


def test_one_node_of_a_hierarchy_is_a_ring_and_one_rank_a_node_too() -> None:
    one_node = cc.hierarchical_all_reduce_s(SIZE, 8, 1, NVLINK, WIRE)
    assert one_node == pytest.approx(cc.ring_s("all_reduce", SIZE, 8, NVLINK))
    one_rank = cc.hierarchical_all_reduce_s(SIZE, 1, 4, NVLINK, WIRE)
    assert one_rank == pytest.approx(cc.ring_s("all_reduce", SIZE, 4, WIRE))


def test_pipelining_brings_trees_and_chains_towards_their_bandwidth_bound() -> None:
    free = Link(alpha_s=0, bandwidth_byte_per_s=1e9)
    assert cc.pipelined_tree_all_reduce_s(1e9, 8, free, chunks=10_000) == pytest.approx(2, rel=1e-3)
    assert cc.broadcast_chain_s(1e9, 8, free, chunks=10_000) == pytest.approx(1, rel=1e-3)
    assert cc.double_binary_tree_all_reduce_s(1e9, 8, free) == pytest.approx(2)
    assert cc.broadcast_binomial_s(1e9, 8, free) == pytest.approx(3)
    assert cc.gloo_ring_chunked_all_reduce_s(1e9, 8, free) == pytest.approx(2)
    assert cc.barrier_s(8, Link(alpha_s=2, bandwidth_byte_per_s=1)) == pytest.approx(6)


def test_one_rank_costs_nothing() -> None:
    assert cc.ring_s("all_reduce", 1e9, 1, LINK) == 0
    assert cc.pipelined_tree_all_reduce_s(1e9, 1, LINK, chunks=4) == 0
    assert cc.gloo_ring_chunked_all_reduce_s(1e9, 1, LINK) == 0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="named 'allreduce'"):
        cc.bus_factor("allreduce", 8)
    with pytest.raises(ValueError, match="at least one rank"):
        cc.ring_steps("all_reduce", 0)
    with pytest.raises(ValueError, match="power of two"):
        cc.halving_doubling_all_reduce_s(1, 6, LINK)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        Link(alpha_s=0, bandwidth_byte_per_s=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        cc.saturation_bytes("all_reduce", 8, LINK, efficiency=1)

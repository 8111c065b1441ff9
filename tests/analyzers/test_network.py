"""Communication facts against what was put in: latency, bandwidth, hidden part, kinds of groups."""

from collections.abc import Callable, Sequence

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.parallelism import GroupUse, kinds_of
from perfkit.analyzers.result import Analysis
from perfkit.roofline.collective_cost import Link, ring_s
from perfkit.trace.model import RankTrace
from tests.builders import Item, StepItem, kernel, nccl, rank_trace, run_of, step

ALL = (0, 1, 2, 3, 4, 5, 6, 7)
LINK = Link(alpha_s=20e-6, bandwidth_byte_per_s=10e9)
SIZES = [10_000, 100_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000]  # elements of 4 bytes


def reducing(
    sizes: Sequence[int],
    *,
    compute_ms: float = 5.0,
    beside: bool = False,
    node: Callable[[int], str] = lambda _: "node-a",
    slower: float = 1.0,
) -> Analysis:
    """Four ranks, six steps: compute, then ring all-reduces of these sizes on LINK."""
    traces: list[RankTrace] = []
    for rank in range(4):
        items: list[Item | StepItem] = []
        at, sequence = 0.0, 0
        for k in range(7):
            begin = at
            items.append(kernel("gemm", at_ms=at, ms=compute_ms))
            at += compute_ms
            for elements in sizes:
                ms = 1e3 * ring_s("all_reduce", 4 * elements, 4, LINK) * slower
                sequence += 1
                items.append(
                    nccl("all_reduce", at_ms=at, ms=ms, elements=elements, sequence=sequence)
                )
                if beside:
                    items.append(kernel("gemm", at_ms=at, ms=ms))
                at += ms
            items.append(step(k, at_ms=begin, ms=at - begin))
        traces.append(rank_trace(*items, rank=rank, world_size=4, node=node(rank)))
    run, load = run_of(*traces)
    return analyze(run, load)


def test_latency_and_bandwidth_come_back() -> None:
    (fit,) = reducing(SIZES).networks
    assert (fit.placement, fit.ranks, fit.overlapped, fit.refused) == ("one node", 4, False, "")
    assert fit.alpha_us == pytest.approx(20.0, rel=0.01)
    assert fit.bandwidth_gbyte_per_s == pytest.approx(10.0, rel=0.01)
    assert fit.alpha_interval_us is not None and fit.bandwidth_interval_gbyte_per_s is not None
    assert (fit.valid_from_bytes, fit.valid_to_bytes) == (10_000, 1_600_000_000)
    # S_90 of a ring all-reduce is 9 n alpha B.
    assert fit.saturation_bytes == pytest.approx(9 * 4 * 20e-6 * 10e9, rel=0.01)
    assert fit.latency_ms == pytest.approx(6 * 6 * 20e-3, rel=0.01)
    assert fit.wire_ms == pytest.approx(1.5 * 4 * sum(SIZES) / 10e9 * 1e3, rel=0.01)


def test_one_size_is_refused_and_says_why() -> None:
    (fit,) = reducing([1_000_000]).networks
    assert fit.bandwidth_gbyte_per_s is None and fit.alpha_us is None
    assert "1 usable message size(s)" in fit.refused


def test_close_sizes_give_a_bandwidth_but_no_latency() -> None:
    (fit,) = reducing([1_000_000, 2_000_000, 3_000_000]).networks
    assert fit.alpha_us is None and fit.saturation_bytes is None and fit.latency_ms is None
    assert fit.bandwidth_gbyte_per_s == pytest.approx(10.0, rel=0.2)


def test_calls_beside_compute_are_used_only_if_there_are_no_others_and_said_to_be() -> None:
    analysis = reducing(SIZES, beside=True)
    (fit,) = analysis.networks
    assert fit.overlapped and fit.alpha_us == pytest.approx(20.0, rel=0.01)
    (group,) = analysis.groups
    assert group.hidden_share == pytest.approx(1.0)
    assert reducing(SIZES).groups[0].hidden_share == pytest.approx(0.0)


def test_calls_that_share_the_link_count_once() -> None:
    """Two all-reduces at a time each get half of the link: together they take as long as one."""
    sizes = [25_000, 100_000, 400_000, 1_600_000, 6_400_000, 25_600_000]
    traces = []
    for rank in range(4):
        items: list[Item | StepItem] = []
        at, sequence = 0.0, 0
        for k in range(7):
            begin = at
            items.append(kernel("gemm", at_ms=at, ms=5))
            at += 5
            for elements in sizes:
                both = 2 * 4 * elements
                ms = 1e3 * (2 * ring_s("all_reduce", 0, 4, LINK) + 1.5 * both / 10e9)
                for stream in (20, 21):
                    sequence += 1
                    items.append(
                        nccl("all_reduce", at_ms=at, ms=ms, elements=elements, sequence=sequence,
                             stream=stream)
                    )  # fmt: skip
                at += ms + 0.5
            items.append(step(k, at_ms=begin, ms=at - begin))
        traces.append(rank_trace(*items, rank=rank, world_size=4))
    run, load = run_of(*traces)
    analysis = analyze(run, load)
    for row in analysis.collectives:
        assert row.bytes is not None
        seconds = ring_s("all_reduce", 0, 4, LINK) + 1.5 * row.bytes / 10e9  # alone on the link
        assert row.transfer_ms == pytest.approx(1e3 * seconds, rel=1e-3)
        assert row.busbw_gbyte_per_s == pytest.approx(1.5 * row.bytes / seconds / 1e9, rel=1e-3)
    (fit,) = analysis.networks
    assert fit.bandwidth_gbyte_per_s == pytest.approx(10.0, rel=0.01)
    assert fit.alpha_us == pytest.approx(20.0, rel=0.05)
    assert fit.calls == 6 * 6 * 2


def test_calls_that_share_the_link_in_part_divide_that_part() -> None:
    """Twice 10 ms that overlap by 4 ms: the link was busy for 16 ms, half of it for each."""
    pair = [
        rank_trace(
            step(0, at_ms=0, ms=30),
            kernel("gemm", at_ms=0, ms=1),
            nccl("all_reduce", at_ms=2, ms=10, elements=10**6, sequence=1, stream=20),
            nccl("all_reduce", at_ms=8, ms=10, elements=10**7, sequence=2, stream=21),
            rank=rank,
            world_size=2,
        )
        for rank in (0, 1)
    ]
    run, load = run_of(*pair)
    ms = [row.transfer_ms for row in analyze(run, load).collectives]
    assert ms == [pytest.approx(8.0), pytest.approx(8.0)]  # each alone for 6, together for 4


def test_what_calls_expose_together_counts_once() -> None:
    """As above, computing from 12 to 18 ms: of 16 ms under way 10 stand alone, never 2 x 10."""
    pair = [
        rank_trace(
            step(0, at_ms=0, ms=30),
            kernel("gemm", at_ms=0, ms=1),
            kernel("gemm", at_ms=12, ms=6),
            nccl("all_reduce", at_ms=2, ms=10, elements=10**6, sequence=1, stream=20),
            nccl("all_reduce", at_ms=8, ms=10, elements=10**7, sequence=2, stream=21),
            rank=rank,
            world_size=2,
        )
        for rank in (0, 1)
    ]
    run, load = run_of(*pair)
    analysis = analyze(run, load)
    first, second = sorted(analysis.collectives, key=lambda row: row.bytes or 0)
    assert (first.duration_ms, first.once_ms, first.exposed_ms) == (10.0, 8.0, 8.0)
    assert (second.once_ms, second.exposed_ms) == (8.0, 2.0)
    (group,) = analysis.groups
    assert group.exposed_ms == 10.0 and group.hidden_share == pytest.approx(6 / 16)


def test_placements_are_fitted_apart() -> None:
    (fit,) = reducing(SIZES, node=lambda rank: f"node-{rank // 2}").networks
    assert fit.placement == "between nodes"


def findings(analysis: Analysis) -> dict[str, str]:
    return {f.id: f.next_step for f in analysis.findings}


def test_small_messages_want_larger_buckets() -> None:
    small = [2_000, 4_000, 8_000, 20_000, 60_000, 300_000] * 6
    found = findings(reducing(small, compute_ms=2.0))
    assert "latency_bound_transfers" in found
    assert "raise bucket_cap_mb" in found["latency_bound_transfers"]
    assert "tiny_messages" not in found and "bandwidth_bound_transfers" not in found


def test_large_messages_want_fewer_bytes_or_a_faster_link() -> None:
    analysis = reducing(SIZES, compute_ms=50.0)
    found = findings(analysis)
    assert "fewer bytes" in found["bandwidth_bound_transfers"]
    assert "latency_bound_transfers" not in found and "slow_transfers" not in found
    (finding,) = [f for f in analysis.findings if f.id == "bandwidth_bound_transfers"]
    (fit,) = analysis.networks
    assert fit.wire_ms is not None and finding.gain_ceiling is not None
    window = analysis.budget.per_rank[0].window_ms
    assert finding.gain_ceiling == pytest.approx(window / (window - fit.wire_ms), rel=0.02)


def test_compute_bound_runs_get_no_advice_on_networks() -> None:
    assert findings(reducing(SIZES, compute_ms=10_000.0)) == {}


def per_node(slow: str | None) -> Analysis:
    """Three nodes of two ranks, each with a group of its own; one of them may be slower."""
    traces = []
    for rank in range(6):
        node = f"n{rank // 2}"
        ms = 20.0 if node == slow else 10.0
        first = rank - rank % 2
        items: list[Item | StepItem] = []
        for k in range(4):
            items += [
                step(k, at_ms=40.0 * k, ms=40),
                kernel("gemm", at_ms=40.0 * k, ms=40 - ms),
                nccl("all_reduce", at_ms=40.0 * k + 40 - ms, ms=ms, elements=10**6, group=node,
                     sequence=k + 1),
            ]  # fmt: skip
        groups = {f"n{first // 2}": (first, first + 1)}
        traces.append(rank_trace(*items, rank=rank, world_size=6, node=node, groups=groups))
    run, load = run_of(*traces)
    return analyze(run, load)


def test_one_node_with_a_slower_link_is_named() -> None:
    found = {f.id: f for f in per_node("n1").findings}
    assert found["slow_link"].ranks == (2, 3)
    assert "slow_link" not in {f.id for f in per_node(None).findings}


def use(title: str, ranks: Sequence[int], *ops: str, description: str = "") -> GroupUse:
    return GroupUse(
        title=title, description=description, ranks=tuple(ranks), operations=frozenset(ops)
    )


def kinds(*groups: GroupUse, ddp: bool = False) -> dict[str, str]:
    return {t: k.name for t, k in kinds_of(groups, 8, data_parallel=ddp).items()}


def test_names_decide_first() -> None:
    found = kinds(
        use("1", ALL, "all_reduce", description="mesh_dp"),
        use("2", (0, 1), "all_reduce", description="TENSOR_MODEL_PARALLEL_GROUP"),
        use("3", (0, 4), "send", "recv", description="PIPELINE_MODEL_PARALLEL_GROUP"),
        use("4", (0, 2), "all_to_all", description="EXPERT_MODEL_PARALLEL_GROUP"),
        use("5", (0, 2), "all_gather", description="mesh_cp"),
    )
    assert list(found.values()) == ["data", "tensor", "pipeline", "expert", "context"]


def test_a_world_of_all_reduces_is_data_parallel_only_if_ddp_is_known() -> None:
    world = use("0", ALL, "all_reduce", description="default_pg")
    assert kinds(world) == {"0": "cannot tell"}
    assert kinds(world, ddp=True) == {"0": "data"}
    assert kinds(use("0", ALL, "all_reduce", "all_to_all"), ddp=True) == {"0": "cannot tell"}


def test_neighbours_and_groups_across_them_are_tensor_and_data() -> None:
    near = [use(f"t{n}", (2 * n, 2 * n + 1), "all_reduce") for n in range(4)]
    across = [use(f"d{n}", range(n, 8, 2), "all_reduce") for n in range(2)]
    found = kinds(*near, *across)
    assert {found[g.title] for g in near} == {"tensor"}
    assert {found[g.title] for g in across} == {"data"}


def test_sharded_neighbours_may_be_either() -> None:
    near = [use(f"s{n}", (2 * n, 2 * n + 1), "all_gather", "reduce_scatter") for n in range(4)]
    across = [use(f"r{n}", range(n, 8, 2), "all_reduce") for n in range(2)]
    assert set(kinds(*near, *across).values()) == {"cannot tell"}


def test_pipelines_only_send_and_receive() -> None:
    assert kinds(use("p", (0, 4), "send", "recv")) == {"p": "pipeline"}


def test_experts_exchange_inside_a_data_group() -> None:
    world = use("0", ALL, "all_reduce")
    assert kinds(world, use("e", (0, 1, 2, 3), "all_to_all"), ddp=True)["e"] == "expert"
    assert kinds(world, use("e", (0, 1, 2, 3), "all_to_all"))["e"] == "cannot tell"
    assert kinds(use("e", (), "all_to_all"))["e"] == "cannot tell"

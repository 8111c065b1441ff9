"""A step against its bounds: network levels, both pairs of bounds, overlap, ridges, utilization."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline.ceilings import Ceilings, Roofs
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.model import (
    StepBound,
    attainable,
    harmonic_peak,
    hierarchical_attainable,
    ridge,
)
from perfkit.roofline.network import Sharding, critical_tokens, split_levels
from perfkit.roofline.parallel import Parallelism
from perfkit.roofline.place import place
from perfkit.roofline.step import StepRoofline, step_roofline
from perfkit.roofline.summary import Ranks, RunRoofline, summarize
from perfkit.trace.model import NONE, RankTrace
from tests.builders import gloo, op, rank_trace, step
from tests.roofline.machines import ceilings, roofs
from tests.roofline.shapes import shape

CUBE = shape([(1000, 1000), (1000, 1000)], ["float", "float"])  # 2 GFLOP
MB = 250_000  # elements of fp32 in 1e6 bytes


def ddp(*, compute_ms: float = 10, reduce_ms: float = 20, step_ms: float = 40) -> RankTrace:
    """One rank of two: computes, then reduces 10 MB."""
    return rank_trace(
        step(0, at_ms=0, ms=step_ms),
        op("aten::mm", at_ms=0, ms=compute_ms, shape=CUBE),
        gloo("all_reduce", at_ms=compute_ms, ms=reduce_ms, elements=10 * MB),
        world_size=2,
        device_kind="cpu",
    )


def of(trace: RankTrace, measured: Ceilings, nodes: Mapping[int, str]) -> StepRoofline:
    under = Roofs(measured)
    return step_roofline(trace, place(trace, under), under, nodes)


def test_a_step_between_two_nodes() -> None:
    found = of(ddp(), ceilings(network={1: 10e9, 2: 1e9}), {0: "a", 1: "b"})
    (level,) = found.levels
    assert level.name == "inter-node"
    assert level.bus_bytes == pytest.approx(10e6)  # 2 (n-1)/n S with n = 2
    assert level.least_s == pytest.approx(10e-3)
    assert level.intensity == pytest.approx(2e9 / 10e6)
    assert found.intensity == pytest.approx(2e9 / 12e6)
    assert found.limit == "inter-node"
    assert of(ddp(), ceilings(), {}).limit == "compute"
    (point,) = found.network
    assert point.busbw_bytes_per_s == pytest.approx(10e6 / 20e-3)
    assert point.attained == pytest.approx(0.5)
    assert (point.ranks, point.nodes, point.calls) == (2, 2, 1)


def test_both_pairs_of_bounds_and_the_overlap_they_allow() -> None:
    found = of(ddp(step_ms=15), ceilings(network={1: 1e9}), {0: "a", 1: "a"})
    assert found.levels[0].name == "intra-node"
    assert found.ceilings.compute_s == pytest.approx(2e-3)  # 2 GFLOP at 1 TFLOP/s
    assert found.ceilings.lowest_s == pytest.approx(10e-3)
    assert found.ceilings.highest_s == pytest.approx(12e-3)
    assert found.measured.lowest_s == pytest.approx(10e-3)
    assert found.measured.highest_s == pytest.approx(20e-3)
    assert found.measured.overlap is not None
    assert found.measured.overlap.raw == pytest.approx(0.5)  # (20 - 15) / (20 - 10)
    assert found.ceilings.overlap is not None
    assert found.ceilings.overlap.raw == pytest.approx(-1.5)
    assert found.ceilings.overlap.clipped == 0


def test_without_a_network_ceiling_there_is_no_upper_bound() -> None:
    found = of(ddp(), ceilings(), {0: "a", 1: "a"})
    assert found.levels[0].bandwidth_bytes_per_s is None
    assert found.ceilings.highest_s is None
    assert found.ceilings.overlap is None
    assert found.ceilings.lowest_s == pytest.approx(2e-3)


def test_without_a_ceiling_of_computing_the_network_bounds_alone_and_names_nothing() -> None:
    bare = replace(ceilings(network={1: 1e9}), ceilings=())
    found = of(ddp(), bare, {0: "a", 1: "a"})
    assert found.ceilings.compute_s is None and found.limit is None
    assert found.ceilings.lowest_s == pytest.approx(10e-3)
    assert found.ceilings.highest_s is None and found.ceilings.overlap is None
    assert found.measured.highest_s == pytest.approx(20e-3)


def test_ranks_whose_node_is_unknown_have_no_level_to_be_held_against() -> None:
    found = of(ddp(), ceilings(network={1: 1e9}), {0: "a"})
    assert found.network[0].nodes is None
    assert found.network[0].ceiling_bytes_per_s is None


def test_transfers_of_unknown_size_are_never_counted_as_nothing() -> None:
    known = ddp()
    unknown = replace(known.collectives, size_bytes=np.array([NONE]), op=("all_reduce",))
    found = of(replace(known, collectives=unknown), ceilings(network={1: 1e9}), {0: "a", 1: "a"})
    assert (found.unsized_calls, found.levels) == (1.0, ())
    for pair in (found.ceilings, found.measured):
        assert pair.network_s is None and pair.highest_s is None and pair.overlap is None
        assert pair.lowest_s == pair.compute_s
    trace = replace(known, collectives=unknown)
    told = summarize_one(trace, ceilings(network={1: 1e9}), Configuration())
    why = {entry.claim: entry.why for entry in told.cannot_tell}
    reason = "transfers of which no size is recorded: 1 a step"
    assert why["what the network must carry"] == reason
    assert told.network == () and told.closed_forms == ()
    barrier = replace(unknown, op=("barrier",))
    found = of(replace(known, collectives=barrier), ceilings(network={1: 1e9}), {0: "a", 1: "a"})
    assert found.unsized_calls == 0 and found.ceilings.network_s == 0


def test_a_hierarchical_group_splits_its_bytes_over_two_levels() -> None:
    split = split_levels("all_reduce", 64e6, ranks=16, ranks_per_node=8)
    assert split.inter_bytes == pytest.approx(1.875 * 64e6 / 8)
    assert split.intra_bytes + split.inter_bytes == pytest.approx(1.875 * 64e6)
    assert split_levels("all_reduce", 64e6, ranks=8, ranks_per_node=8).inter_bytes == 0


def summarize_one(
    trace: RankTrace,
    measured: Ceilings,
    configuration: Configuration,
    unprofiled_step_s: float | None = None,
) -> RunRoofline:
    under, nodes = Roofs(measured), {0: "a", 1: "a"}
    placement = place(trace, under)
    ranks = Ranks(
        placements=[placement],
        steps=[step_roofline(trace, placement, under, nodes)],
        device_kind="cpu",
        world_size=2,
        configuration=configuration,
        has_shapes=True,
        unprofiled_step_s=unprofiled_step_s,
    )
    return summarize(ranks, under, "")


def test_where_a_ddp_configuration_sits_against_the_network_ridge() -> None:
    group = Parallelism(
        kind="ddp", group="0", ranks=2, nodes=1, item_bytes=4, elements=2.5e6, because="made up"
    )
    configuration = Configuration(parameters=2.5e6, tokens_per_rank=133, parallelism=(group,))
    found = summarize_one(ddp(), ceilings(network={1: 1e9}), configuration)
    (row,) = found.network
    assert row.ridge == pytest.approx(1000)  # 1 TFLOP/s over 1 GB/s
    assert row.intensity == pytest.approx(200)
    assert row.work_factor == pytest.approx(5)
    assert row.critical_tokens == pytest.approx(critical_tokens(Sharding.DDP, 1000, 2, 4))
    assert row.doubled_ranks_factor == pytest.approx(1.5)
    assert row.limit_factor == pytest.approx(2)


def test_utilization_names_its_convention_and_uses_the_unprofiled_step() -> None:
    configuration = Configuration(parameters=1e6, tokens_per_rank=100)
    found = summarize_one(ddp(), ceilings(), configuration, unprofiled_step_s=20e-3)
    shares = {entry.convention: entry.share for entry in found.utilization}
    assert shares["executed"] == pytest.approx(2e9 / 20e-3 / 1e12)
    assert shares["operators"] == shares["executed"]
    assert shares["6N"] == pytest.approx(6e8 / 20e-3 / 1e12)
    assert found.findings == ()


def test_more_than_all_of_the_peak_is_a_finding() -> None:
    found = summarize_one(ddp(step_ms=30), ceilings(matrix={"fp32": 5e10}), Configuration())
    assert {entry.share > 1 for entry in found.utilization} == {True}
    assert any("cannot be" in text for text in found.findings)
    assert any("less than the" in text for text in found.findings)


def test_what_is_missing_says_how_to_get_it() -> None:
    under = roofs()
    trace = replace(ddp(), events=replace(ddp().events, shapes=()))
    placement = place(ddp(), Roofs())
    ranks = Ranks(
        placements=[placement, replace(placement, device_name="NVIDIA L4")],
        steps=[step_roofline(trace, placement, under, {})],
        device_kind="cpu",
        world_size=2,
        configuration=Configuration(),
        has_shapes=False,
    )
    told = {entry.claim: entry for entry in summarize(ranks, Roofs(), "").cannot_tell}
    assert set(told) == {
        "points, FLOP, utilization",
        "shares of measured ceilings",
        "one roof for all ranks",
        "the network roof",
        "which links a group's collectives cross",
    }
    assert "record_shapes" in told["points, FLOP, utilization"].remedy


positive = st.floats(1e-9, 1e9)


@given(compute=positive, network=positive, inside=st.floats(0, 1))
def test_bounds_of_one_level_differ_by_at_most_two(
    compute: float, network: float, inside: float
) -> None:
    bound = StepBound(compute_s=compute, network_s=(network,))
    assert bound.lowest_s <= bound.highest_s <= 2 * bound.lowest_s * (1 + 1e-12)
    measured = bound.lowest_s + inside * (bound.highest_s - bound.lowest_s)
    quality = bound.overlap_quality(measured)
    assert quality is None or 0 <= quality.clipped <= 1


@given(intensity=positive, peak=positive, bandwidth=positive)
def test_roofs_meet_at_the_ridge(intensity: float, peak: float, bandwidth: float) -> None:
    roof = attainable(intensity, peak, bandwidth)
    assert roof <= peak
    assert (roof == peak) == (intensity * bandwidth >= peak)
    assert attainable(ridge(peak, bandwidth), peak, bandwidth) == pytest.approx(peak)
    levels = hierarchical_attainable(peak, {"hbm": intensity}, {"hbm": bandwidth, "nic": 1.0})
    assert levels == roof


@given(st.dictionaries(st.sampled_from(["bf16", "fp8", "fp32"]), positive, min_size=1))
def test_a_mix_of_precisions_peaks_between_its_parts(flop: dict[str, float]) -> None:
    peaks = {"bf16": 2.0, "fp8": 4.0, "fp32": 1.0}
    mixed = harmonic_peak(flop, peaks)
    assert mixed is not None
    used = [peaks[name] for name in flop]
    assert min(used) * (1 - 1e-9) <= mixed <= max(used) * (1 + 1e-9)
    assert harmonic_peak({**flop, "fp4": 1.0}, peaks) is None
    assert harmonic_peak({}, peaks) is None

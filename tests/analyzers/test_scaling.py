"""A series of runs: what it is, what it lost and why, what more ranks would bring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from perfkit.analyzers.contention import Contention
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Blame
from perfkit.analyzers.scaling import Question, scale
from perfkit.analyzers.scaling_losses import CAUSES, FAMILY, causes_ms
from perfkit.analyzers.scaling_result import Scaling, ScalingPoint
from perfkit.analyzers.scaling_runs import MeasuredRun, mode_of
from perfkit.analyzers.traffic import join_traffic, traffic_of
from perfkit.roofline.collective_cost import Link
from perfkit.trace.model import RankTrace
from tests.analyzers.scaling_series import LINK, measured, ring_run, traffic, transfers_s
from tests.builders import Item, StepItem, gloo, op, rank_trace, step


def judged(runs: Sequence[MeasuredRun], **question: Any) -> Scaling:
    sent = {run.name: traffic(run) for run in runs if run.ranks > 1}
    found = scale(runs, Question(**question), sent)
    assert isinstance(found, Scaling), found
    return found


def point(found: Scaling, ranks: int) -> ScalingPoint:
    (own,) = (p for p in found.points if p.ranks == ranks)
    return own


def exact_ms(ranks: int, *, weak: bool = False, link: Link = LINK) -> float:
    return 20.0 + (800.0 if weak else 800.0 / ranks) + sum(transfers_s(ranks, link)) * 1e3


def codes(found: Scaling) -> set[str]:
    return {warned.code for warned in found.warnings}


def test_strong_and_weak_are_told_by_the_recorded_samples() -> None:
    assert mode_of([ring_run(1), ring_run(2)]) == "strong"
    assert mode_of([ring_run(1, weak=True), ring_run(4, weak=True)]) == "weak"
    assert codes(judged([ring_run(1), ring_run(2)], asked_mode="weak")) >= {
        "NOT_THE_MODE_ASKED_FOR"
    }


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([ring_run(1), ring_run(2, weak=True), ring_run(4)], "neither strong nor weak"),
        ([ring_run(2, name="a"), ring_run(2, name="b")], "all runs have 2 ranks"),
        ([ring_run(1), ring_run(2, model="CNN")], "different models: CNN and GPT"),
        ([ring_run(1), ring_run(2, dtypes=("bfloat16",))], "different data types: bfloat16 and"),
    ],
)
def test_what_is_no_series_is_refused(runs: list[MeasuredRun], reason: str) -> None:
    found = scale(runs, Question(), {})
    assert isinstance(found, Refusal)
    assert reason in found.reason and "\n" not in str(found)


def test_speed_up_and_efficiency_of_strong_scaling() -> None:
    found = judged([ring_run(1), ring_run(2), ring_run(4)])
    four = point(found, 4)
    assert four.step_ms == pytest.approx(exact_ms(4))
    assert four.speed_up == pytest.approx(820 / exact_ms(4))
    assert four.efficiency == pytest.approx(820 / exact_ms(4) / 4)
    assert four.samples_per_s == pytest.approx(64e3 / exact_ms(4))
    assert four.karp_flatt == pytest.approx((1 / four.speed_up - 1 / 4) / (1 - 1 / 4))
    assert (four.gustafson_serial_share, point(found, 1).karp_flatt) == (None, None)


def test_weak_scaling_scales_the_speed_up() -> None:
    found = judged([ring_run(1, weak=True), ring_run(4, weak=True)])
    four = point(found, 4)
    assert four.efficiency == pytest.approx(820 / exact_ms(4, weak=True))
    assert four.speed_up == pytest.approx(4 * four.efficiency)
    assert four.ideal_ms == pytest.approx(820.0)
    assert four.gustafson_serial_share == pytest.approx((4 - four.speed_up) / 3)
    assert four.karp_flatt is None


def test_losses_sum_to_what_is_missing() -> None:
    found = judged([ring_run(1), ring_run(2), ring_run(4)])
    for own in found.points:
        assert sum(loss.ms for loss in own.losses) == pytest.approx(own.step_ms - own.ideal_ms)
    named = {loss.cause: loss.ms for loss in point(found, 4).losses}
    assert named["exposed_transfer"] == pytest.approx(exact_ms(4) - 220)
    assert named["host"] == pytest.approx(15.0)
    assert "compute" not in named or named["compute"] == pytest.approx(0.0)
    assert set(CAUSES) == set(FAMILY)


def test_a_slow_rank_is_load_imbalance_and_not_communication() -> None:
    blame = [Blame(rank=1, class_="compute", ms=30.0), Blame(rank=-1, class_="other", ms=2.0)]
    slow = measured(
        4,
        {"compute": 50.0, "comm_transfer": 5.0, "comm_wait": 32.0},
        blame=blame,
        compute_ms=[40.0, 80.0, 40.0, 40.0],
    )
    causes = causes_ms(slow)
    assert causes["load_imbalance"] == pytest.approx(30.0 + 10.0)  # the others' wait, its extra
    assert causes["compute"] == pytest.approx(40.0)
    assert causes["straggler_wait"] == pytest.approx(2.0)
    found = judged([measured(1, {"compute": 200.0}), slow])
    assert point(found, 4).main_loss == "load_imbalance"


def test_ranks_late_in_turn_are_no_load_imbalance() -> None:
    blame = [Blame(rank=r, class_="compute", ms=8.0) for r in range(4)]
    varying = measured(
        4, {"compute": 50.0, "comm_wait": 32.0}, blame=blame, compute_ms=[50.0, 51.0, 49.0, 50.0]
    )
    causes = causes_ms(varying)
    assert causes["load_imbalance"] == pytest.approx(1.0)
    assert causes["straggler_wait"] == pytest.approx(31.0)


def test_a_loader_that_does_not_scale_is_input_on_its_own_rank_and_on_those_that_wait() -> None:
    late = Blame(rank=0, class_="input_wait", ms=20.0)
    slow = measured(2, {"compute": 50.0, "input_wait": 30.0, "comm_wait": 20.0}, blame=[late])
    found = judged([measured(1, {"compute": 100.0, "input_wait": 1.0}), slow])
    assert point(found, 2).main_loss == "input"
    assert causes_ms(slow)["input"] == pytest.approx(50.0)
    assert FAMILY["input"] == "io"


def test_classes_without_a_recorder_stay_unknown() -> None:
    runs = [measured(1, {"compute": 10.0}), measured(2, {"compute": 6.0})]
    for run in runs:
        run.classes_ms["memcpy"] = None
    assert point(judged(runs), 2).classes_ms == {"compute": 6.0, "memcpy": None}


def test_physics_finds_the_truth_and_predicts_it() -> None:
    found = judged([ring_run(p) for p in (1, 2, 4)], predict=(8, 16, 1024))
    fits = found.fits
    assert fits is not None and fits.link is not None
    assert fits.chosen == "physics"
    assert fits.link.bandwidth_gbyte_per_s == pytest.approx(1.0)
    assert fits.physics_serial_ms == pytest.approx(20.0, rel=1e-6)
    assert fits.physics_compute_ms == pytest.approx(800.0, rel=1e-6)
    eight, sixteen, far = found.predictions
    assert eight.step_ms == pytest.approx(exact_ms(8), rel=1e-6)
    assert eight.efficiency == pytest.approx(820 / exact_ms(8) / 8, rel=1e-6)
    assert "64 times" in far.refused and far.step_ms is None
    assert "six" in fits.usl_refused or "6 numbers" in fits.usl_refused
    assert fits.growth == ""
    for guess, doublings in ((eight, 1), (sixteen, 2)):
        assert guess.step_ms is not None and guess.high_ms is not None
        assert guess.high_ms / guess.step_ms - 1 == pytest.approx(0.01 * (1 + doublings), rel=1e-3)


def test_weak_scaling_is_predicted_too() -> None:
    found = judged([ring_run(p, weak=True) for p in (1, 2, 4)], predict=(8,))
    assert found.predictions[0].step_ms == pytest.approx(exact_ms(8, weak=True), rel=1e-6)
    assert found.predictions[0].samples_per_s == pytest.approx(
        8 * 64e3 / exact_ms(8, weak=True), rel=1e-6
    )


def test_another_network_changes_the_predictions_and_not_the_fit() -> None:
    other = Link(alpha_s=5e-6, bandwidth_byte_per_s=50e9)
    question = {"predict": (8,), "bandwidth_byte_per_s": 50e9, "alpha_s": 5e-6}
    found = judged([ring_run(p) for p in (1, 2, 4)], **question)
    assert [g.ranks for g in found.predictions] == [1, 2, 4, 8]
    assert found.predictions[-1].step_ms == pytest.approx(exact_ms(8, link=other), rel=1e-6)
    assert found.predicted_link is not None and found.predicted_link.source == "given"
    assert found.fits is not None and found.fits.link is not None
    assert found.fits.link.bandwidth_gbyte_per_s == pytest.approx(1.0)


def test_two_points_are_too_few_for_a_fit() -> None:
    found = judged([ring_run(1), ring_run(2)])
    assert found.fits is None and "a fit needs three" in found.fit_refused
    assert found.predictions == ()


def test_oversubscribed_points_are_in_no_fit_unless_allowed_aloud() -> None:
    crowded = ring_run(4, oversubscribed=True, cores=2, factor=1.7)
    runs = [ring_run(1), ring_run(2), crowded]
    found = judged(runs)
    assert found.fits is None and "OVERSUBSCRIBED" in codes(found)
    assert [(p.ranks, p.oversubscribed, p.in_fit) for p in found.points] == [
        (1, False, True),
        (2, False, True),
        (4, True, False),
    ]
    assert 4 not in {cost.ranks for cost in found.costs}
    allowed = judged(runs, use_oversubscribed=True)
    assert allowed.fits is not None and allowed.fits.points == (1, 2, 4)
    assert any("--use-oversubscribed" in w.message for w in allowed.warnings)


def test_a_constant_karp_flatt_value_names_no_cause() -> None:
    runs = [ring_run(p, serial_ms=0.001) for p in (1, 2, 4)]
    (warned,) = (w for w in judged(runs).warnings if w.code == "CURVE_NAMES_NO_CAUSE")
    assert CAUSES["exposed_transfer"] in warned.message


def test_threads_that_differ_are_a_trap() -> None:
    found = judged([ring_run(1, threads=8), ring_run(2)])
    assert any("threads on ranks: 8 on 1, 1 on 2" in w.message for w in found.warnings)


def test_intervals_come_from_runs_alone() -> None:
    one = judged([ring_run(1), ring_run(2)])
    assert point(one, 2).step_interval_ms is None and "FEW_RUNS" in codes(one)
    runs = [ring_run(p, name=f"{p}{k}", factor=1 + k / 100) for p in (1, 2) for k in range(5)]
    several = judged(runs)
    low, high = point(several, 2).step_interval_ms or (0, 0)
    assert exact_ms(2) <= low < point(several, 2).step_ms < high <= exact_ms(2) * 1.0401
    assert "FEW_RUNS" not in codes(several)
    low, high = point(several, 2).efficiency_interval or (0, 0)
    assert low < point(several, 2).efficiency < high
    assert point(several, 1).efficiency_interval is None
    assert judged(runs) == several


def test_time_and_cost_of_given_work() -> None:
    runs = [ring_run(p) for p in (1, 2, 4)]
    found = judged(runs, predict=(8,), samples=64_000.0, price_per_gpu_hour=3.0)
    costs = {cost.ranks: cost for cost in found.costs}
    assert costs[1].hours == pytest.approx(0.82 * 1000 / 3600)
    assert costs[4].gpu_hours == pytest.approx(4 * exact_ms(4) / 3600)
    assert costs[4].price == pytest.approx(3 * 4 * exact_ms(4) / 3600)
    assert [c.predicted for c in found.costs] == [False, False, False, True]
    assert (found.cheapest_ranks, found.work) == (1, "64,000 samples")


def test_the_knee_has_the_largest_speed_up_times_efficiency() -> None:
    runs = [ring_run(p, serial_ms=100.0) for p in (1, 2, 4)]
    found = judged(runs, predict=(8, 16, 32, 64))
    power = {
        **{p.ranks: p.speed_up * p.efficiency for p in found.points},
        **{g.ranks: (g.efficiency or 0) ** 2 * g.ranks for g in found.predictions},
    }
    assert found.knee_ranks == max(power, key=lambda p: power[p])
    assert found.knee_ranks not in (1, 64)


def test_two_sentences_carry_the_numbers_of_the_series() -> None:
    strong = judged([ring_run(1), ring_run(4)]).sentences
    weak = judged([ring_run(1, weak=True), ring_run(4, weak=True)]).sentences
    assert len(strong) == len(weak) == 2
    assert "64 samples" in strong[0] and "820 ms" in strong[0]
    assert strong[0].startswith("Strong scaling") and weak[0].startswith("Weak scaling")


def two_buckets(rank: int, *, late_ms: float = 0.0) -> RankTrace:
    """Each step two transfers that share the link, then one alone."""
    items: list[Item | StepItem] = []
    for k in range(3):
        t = 100.0 * k
        items += [
            step(k, at_ms=t, ms=100),
            op("aten::mm", at_ms=t, ms=60),
            gloo("all_reduce", at_ms=t + 20 + late_ms, ms=30 - late_ms, sequence=3 * k),
            gloo("all_reduce", at_ms=t + 40, ms=20, elements=500, sequence=3 * k + 1),
            gloo("all_reduce", at_ms=t + 70, ms=20, elements=200, sequence=3 * k + 2),
        ]
    return rank_trace(*items, rank=rank, world_size=2)


def test_messages_are_ready_when_their_call_is_made() -> None:
    found = traffic_of(two_buckets(0)).messages
    assert not isinstance(found, Refusal)
    assert [m.size_bytes for m in found] == [4000, 2000, 800]
    assert [m.ready_s for m in found] == pytest.approx([0.0, 0.020, 0.050])
    silent = traffic_of(rank_trace(step(0, at_ms=0, ms=10), op("aten::mm", at_ms=0, ms=5)))
    assert isinstance(silent.messages, Refusal) and silent.bursts == ()


def test_transfers_that_share_the_link_count_once_and_without_the_wait() -> None:
    found = join_traffic([traffic_of(two_buckets(0)), traffic_of(two_buckets(1, late_ms=6.0))])
    assert len(found.transfers) == 3 * 2
    joined, alone = found.transfers[:2]
    assert (joined.size_bytes, joined.calls, alone.size_bytes, alone.calls) == (6000, 2, 800, 1)
    assert joined.transfer_s == pytest.approx(0.034)  # not 0.040, and not 0.030 + 0.020
    assert alone.transfer_s == pytest.approx(0.020)
    assert found.busy_ms_per_step == pytest.approx(54.0)


def test_groups_smaller_than_the_job_are_not_predicted() -> None:
    sent = {"run2": replace(traffic(ring_run(2)), messages=Refusal(reason="smaller groups"))}
    sent["run4"] = replace(traffic(ring_run(4)), messages=Refusal(reason="smaller groups"))
    found = scale([ring_run(1), ring_run(2), ring_run(4)], Question(), sent)
    assert isinstance(found, Scaling) and found.fits is not None
    assert found.fits.models[0].refused == "smaller groups"
    assert {bool(guess.refused) for guess in found.predictions} == {True}


def test_kernels_that_slow_down_are_told_from_work_that_does_not_divide() -> None:
    one = measured(1, {"compute": 100.0}, kernels={"mm": (80.0, 8e9)})
    # A quarter of the FLOP at half the speed: 20 ms expected, 40 ms taken; 30 ms in all expected.
    four = measured(4, {"compute": 60.0}, kernels={"mm": (40.0, 2e9), "new": (5.0, 1e9)})
    found = {loss.cause: loss.ms for loss in point(judged([one, four]), 4).losses}
    assert found["slower_kernels"] == pytest.approx(20.0)
    assert found["compute"] == pytest.approx(60 - 25 - 20)
    beside = measured(
        4,
        {"compute": 60.0},
        kernels={"mm": (40.0, 2e9)},
        contention=Contention(factor=0.5, ms_per_step=12.0),
    )
    split = {loss.cause: loss.ms for loss in point(judged([one, beside]), 4).losses}
    assert split["contention"] == pytest.approx(12.0)
    assert split["slower_kernels"] == pytest.approx(8.0)
    assert sum(split.values()) == pytest.approx(60 - 25)

"""Replay graphs from captures of known truth: exact replays, exact predictions, refusals."""

import numpy as np
import pytest

from perfkit.analyzers import whatif_changes as changes
from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import Answer, Change, ask, baseline, fit_network, search
from perfkit.analyzers.whatif_buckets import buckets_of
from perfkit.analyzers.whatif_precision import half_precision
from tests.builders import Item, StepItem, kernel, nccl, rank_trace, run_of, step
from tests.models import known_runs as known
from tests.models.known_runs import cpu_run, cpu_step_ms, gpu_run, gpu_step_ms


def graph_of(loaded: known.Loaded) -> StepGraph:
    graph = build_graph(*loaded)
    assert isinstance(graph, StepGraph), graph
    return graph


def answered(graph: StepGraph, *wanted: Change) -> Answer:
    answer = ask(baseline(graph, None), wanted)
    assert isinstance(answer, Answer), answer
    return answer


def refused(graph: StepGraph, *wanted: Change) -> Refusal:
    answer = ask(baseline(graph, None), wanted)
    assert isinstance(answer, Refusal), answer
    return answer


def test_an_unchanged_replay_is_exact() -> None:
    for loaded, length in ((cpu_run(), cpu_step_ms()), (gpu_run(), gpu_step_ms())):
        graph = graph_of(loaded)
        assert graph.steps == (0, 1, 2, 3) and graph.ranks == (0, 1)
        assert graph.step_ns / 1e6 == pytest.approx(length)
        assert graph.replay_error == pytest.approx(0, abs=1e-6)
        assert graph.unmatched == 0 and len(graph.transfers) == known.STEPS


def halves(pair: tuple[float, float]) -> tuple[float, float]:
    return pair[0] / 2, pair[1] / 2


CPU_TRUTH = [
    (changes.network(2), cpu_step_ms(transfer_ms=6)),
    (changes.network(0.5), cpu_step_ms(transfer_ms=24)),
    (changes.compression(4), cpu_step_ms(transfer_ms=3)),
    (changes.perfect_overlap(), cpu_step_ms(transfer_ms=0)),
    (changes.no_input_stall(), cpu_step_ms(input_ms=(0, 0))),
    (changes.no_stragglers(), cpu_step_ms(input_ms=(6, 6), forward_ms=(22, 22))),
    (
        changes.faster_compute(2),
        cpu_step_ms(forward_ms=halves(known.FORWARD_MS), optimizer_ms=2.5),
    ),
    (changes.more_ranks(8), cpu_step_ms(transfer_ms=12 * 1.75)),
]


@pytest.mark.parametrize(("change", "expected"), CPU_TRUTH, ids=lambda v: getattr(v, "name", None))
def test_predictions_of_a_cpu_run(change: Change, expected: float) -> None:
    graph = graph_of(cpu_run())
    answer = answered(graph, change)
    assert answer.predicted_ms == pytest.approx(expected, rel=1e-6)
    assert answer.speed_up == pytest.approx(cpu_step_ms() / expected, rel=1e-6)
    assert answer.low_ms <= answer.predicted_ms <= answer.high_ms


def test_changes_combine() -> None:
    answer = answered(graph_of(cpu_run()), changes.network(2), changes.no_input_stall())
    assert answer.predicted_ms == pytest.approx(cpu_step_ms(input_ms=(0, 0), transfer_ms=6))
    assert answer.changes == ("network x2", "no input stall")


def test_overlap_cannot_hide_more_than_the_network_carries() -> None:
    graph = graph_of(cpu_run())
    idle = (changes.no_input_stall(), changes.faster_compute(1e6), changes.perfect_overlap())
    assert answered(graph, *idle).predicted_ms == pytest.approx(12)
    assert answered(graph, *idle).next_bottleneck == "comm_transfer"
    for wanted in ((*idle, changes.network(2)), (changes.network(2), *idle)):
        assert answered(graph, *wanted).predicted_ms == pytest.approx(6)


GPU_TRUTH = [
    (changes.network(2), gpu_step_ms(transfer_ms=6)),
    (changes.perfect_overlap(), gpu_step_ms(transfer_ms=0)),
    (changes.no_stragglers(), gpu_step_ms(kernel_ms=(22, 22))),
    (changes.faster_compute(2), gpu_step_ms(kernel_ms=halves(known.KERNEL_MS), optimizer_ms=2.5)),
    (half_precision(), gpu_step_ms(kernel_ms=halves(known.KERNEL_MS))),
    # Python before the launches stays; the device alone bounds the step.
    (changes.no_host_syncs(), gpu_step_ms(host_ms=0, tail_ms=0)),
]


@pytest.mark.parametrize(("change", "expected"), GPU_TRUTH, ids=lambda v: getattr(v, "name", None))
def test_predictions_of_a_gpu_run(change: Change, expected: float) -> None:
    answer = answered(graph_of(gpu_run()), change)
    # A delay of microseconds between streams belongs to the capture, not to the truth by hand.
    assert answer.predicted_ms == pytest.approx(expected, rel=2e-3)


def test_the_next_bottleneck_is_named() -> None:
    graph = graph_of(cpu_run())
    fast = answered(graph, changes.faster_compute(1000))
    assert max(fast.shares_before, key=fast.shares_before.__getitem__) == "compute"
    assert fast.next_bottleneck == "comm_transfer"
    assert sum(fast.shares_after.values()) == pytest.approx(1)


def test_what_a_run_does_not_hold_is_refused() -> None:
    cpu, gpu = graph_of(cpu_run()), graph_of(gpu_run())
    assert "checkpoint" in refused(cpu, changes.async_checkpoint()).reason
    assert "CPU" in refused(cpu, changes.no_launch_overhead()).reason
    assert "CPU" in refused(cpu, half_precision()).reason
    assert "device" in refused(cpu, changes.no_host_syncs()).reason
    assert "input wait" in refused(gpu, changes.no_input_stall()).reason
    assert "bucket" in refused(cpu, buckets_of(1)).reason


@pytest.mark.parametrize("clock_ms", [0.5, -5.0, 20.0])
def test_a_clock_shift_between_hosts_changes_no_prediction(clock_ms: float) -> None:
    graph = graph_of(cpu_run(clock_ms=clock_ms))
    assert graph.replay_error == pytest.approx(0, abs=1e-6)
    answer = answered(graph, changes.network(2))
    assert answer.predicted_ms == pytest.approx(cpu_step_ms(transfer_ms=6))


def test_a_record_that_closes_late_hides_no_wait() -> None:
    graph = graph_of(cpu_run(record_ms=0.6))
    answer = answered(graph, changes.network(2))
    assert answer.predicted_ms == pytest.approx(cpu_step_ms(transfer_ms=6), rel=0.01)


def test_a_delay_without_a_cause_is_refused_and_named() -> None:
    result = build_graph(*gpu_run(late_ms=5.0))
    assert isinstance(result, Refusal)
    assert "sgemm" in result.reason and "rank 1" in result.reason
    small = graph_of(gpu_run(late_ms=0.3))
    assert -0.02 < small.replay_error < -0.005
    assert small.unexplained[0][0] == 1


def test_a_missing_rank_forbids_what_needs_it() -> None:
    items: list[Item | StepItem] = []
    for k in range(3):
        items += [
            step(k, at_ms=40 * k, ms=40),
            kernel("sgemm", at_ms=40 * k + 0.01, ms=20),
            nccl("all_reduce", at_ms=40 * k + 20.01, ms=19, sequence=k),
        ]
    graph = graph_of(run_of(rank_trace(*items, rank=0, world_size=2)))
    assert graph.unmatched > 0
    assert "matched" in refused(graph, changes.network(2)).reason
    assert "matched" in refused(graph, changes.perfect_overlap()).reason
    assert "nobody" in refused(graph, changes.no_stragglers()).reason


def test_runs_without_usable_steps_are_refused() -> None:
    empty = build_graph(*run_of())
    assert isinstance(empty, Refusal) and "no trace" in empty.reason
    torn = rank_trace(step(0, at_ms=0, ms=10, complete=False), kernel("k", at_ms=1, ms=2))
    without = build_graph(*run_of(torn))
    assert isinstance(without, Refusal) and "no step" in without.reason


def test_merged_buckets_start_with_their_last_gradient() -> None:
    items: dict[int, list[Item | StepItem]] = {0: [], 1: []}
    for own in items.values():
        for k in range(3):
            at = 100 * k + 0.01
            own.append(step(k, at_ms=100 * k, ms=100))
            for i, (begin, length) in enumerate([(0, 30), (30, 30), (60, 20)]):
                ready, launch = at + begin + length, at - 0.009 + 0.002 * i
                own += [
                    kernel(f"b{i}", at_ms=at + begin, ms=length, launched_at_ms=launch),
                    nccl("all_reduce", at_ms=ready, ms=12, sequence=3 * k + i, elements=2_000_000,
                         launched_at_ms=launch + 0.001),
                ]  # fmt: skip
            own.append(kernel("adam", at_ms=at + 92, ms=7.9, launched_at_ms=at - 0.002))
    graph = graph_of(run_of(*(rank_trace(*items[r], rank=r, world_size=2) for r in items)))
    merged = answered(graph, buckets_of(25))
    # All 36 ms start at 80 instead of the last 12 ending at 92.
    assert merged.predicted_ms == pytest.approx(124, rel=1e-3)
    assert "bucket" in refused(graph, buckets_of(1)).reason


def test_a_search_ranks_single_changes_and_pairs() -> None:
    setting = baseline(graph_of(cpu_run()), None)
    found = search(setting, changes.everything())
    assert [a.predicted_ms for a in found] == sorted(a.predicted_ms for a in found)
    alone = [a for a in found if len(a.changes) == 1]
    pairs = [a for a in found if len(a.changes) == 2]
    assert alone and pairs
    single = {a.changes[0]: a.predicted_ms for a in alone}
    for pair in pairs:
        assert pair.predicted_ms < 0.99 * min(single[change] for change in pair.changes)


def test_the_network_is_fitted_from_the_graph_itself() -> None:
    graph = graph_of(cpu_run())
    assert fit_network(graph, seed=0) is None  # one size only
    sizes = {m.size_bytes for m in graph.transfers}
    assert sizes == {4_000_000}
    durations = graph.plan.graph.duration_ns[graph.plan.graph.collective >= 0]
    assert np.allclose(durations / 1e6, known.TRANSFER_MS)

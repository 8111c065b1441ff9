"""Other buckets and accumulation, against steps whose length under either is known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import Answer, Change, ask, baseline
from perfkit.analyzers.whatif_accumulation import accumulation
from perfkit.analyzers.whatif_buckets import buckets_of
from perfkit.analyzers.whatif_recompute import recomputation
from perfkit.trace.model import OpShape, RankTrace
from tests.builders import Item, StepItem, comm_call, gloo, kernel, op, rank_trace, run_of, step
from tests.models.known_runs import cpu_run, cpu_step_ms

SIDE = 512
LAYER_BYTES = 4 * SIDE * SIDE  # 1 MiB
LAYERS = 4
FORWARD_MS, BACKWARD_MS, TRANSFER_MS, OPTIMIZER_MS = (20.0, 24.0), 10.0, 6.0, 5.0
CALL_MS = 0.05
STEPS = 3


def bucket_step_ms(layers_in_bucket: int) -> float:
    """Return the step by hand: buckets go out one after the other behind their last gradient."""
    free, ready = 0.0, max(FORWARD_MS)
    for first in range(0, LAYERS, layers_in_bucket):
        ready = max(FORWARD_MS) + BACKWARD_MS * min(first + layers_in_bucket, LAYERS)
        free = max(free, ready) + TRANSFER_MS * (min(first + layers_in_bucket, LAYERS) - first)
    return free + CALL_MS + OPTIMIZER_MS


def ddp_run(*, shapes: bool = True, odd: bool = False, marked: bool = False) -> StepGraph:
    """Two ranks, four layers of 1 MiB, all in one bucket that is sent behind the backward pass."""
    length, ranks = bucket_step_ms(LAYERS), []
    shape = OpShape(dims=((SIDE, SIDE + odd),), dtypes=("float",)) if shapes else None
    for rank in range(2):
        items: list[Item | StepItem] = []
        for k in range(STEPS):
            at = k * length
            items += [step(k, at_ms=at, ms=length), op("aten::mm", at_ms=at, ms=FORWARD_MS[rank])]
            for layer in range(LAYERS):
                begin = at + FORWARD_MS[rank] + layer * BACKWARD_MS
                items += [
                    op("aten::mm_backward", at_ms=begin, ms=BACKWARD_MS - 0.1),
                    op("torch::autograd::AccumulateGrad", at_ms=begin + BACKWARD_MS - 0.1, ms=0.1,
                       shape=shape),
                ]  # fmt: skip
            call = at + FORWARD_MS[rank] + LAYERS * BACKWARD_MS
            done = at + length - OPTIMIZER_MS
            items += [
                comm_call(at_ms=call, ms=CALL_MS),
                gloo("all_reduce", at_ms=call + CALL_MS, ms=done - call - CALL_MS, sequence=k,
                     elements=LAYERS * SIDE * SIDE),
                op("aten::add_", at_ms=done, ms=OPTIMIZER_MS),
            ]  # fmt: skip
        ranks.append(
            rank_trace(*items, rank=rank, world_size=2, device_kind="cpu", clock_domain="boot")
        )
    if marked:
        ranks = [with_backward(trace) for trace in ranks]
    graph = build_graph(*run_of(*ranks))
    assert isinstance(graph, StepGraph), graph
    return graph


def with_backward(trace: RankTrace) -> RankTrace:
    """Mark what is named so as work of the backward pass."""
    events = trace.events
    named = [("backward" in n or "AccumulateGrad" in n) for n in events.names]
    return replace(trace, events=replace(events, backward=np.array(named)[events.name]))


def asked(graph: StepGraph, *changes: Change) -> Answer:
    answer = ask(baseline(graph, None), changes)
    assert isinstance(answer, Answer), answer
    return answer


def refusal(graph: StepGraph, change: Change) -> str:
    answer = ask(baseline(graph, None), [change])
    assert isinstance(answer, Refusal)
    return answer.reason


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_smaller_buckets_start_behind_their_own_gradients(layers: int) -> None:
    graph = ddp_run()
    assert graph.step_ns / 1e6 == pytest.approx(bucket_step_ms(LAYERS))
    answer = asked(graph, buckets_of(layers))
    assert answer.predicted_ms == pytest.approx(bucket_step_ms(layers), rel=1e-4)
    assert bucket_step_ms(layers) < bucket_step_ms(LAYERS)


def test_smaller_buckets_need_to_know_the_gradients() -> None:
    assert "not recorded" in refusal(ddp_run(shapes=False), buckets_of(1))
    assert "do not fill" in refusal(ddp_run(odd=True), buckets_of(1))
    assert "already" in refusal(ddp_run(), buckets_of(25))


@pytest.mark.parametrize("micro_steps", [2, 4])
def test_accumulation_exchanges_gradients_once(micro_steps: int) -> None:
    quiet = max(i + f for i, f in ((10, 20), (2, 24))) + CALL_MS + OPTIMIZER_MS
    expected = ((micro_steps - 1) * quiet + cpu_step_ms()) / micro_steps
    graph = build_graph(*cpu_run())
    assert isinstance(graph, StepGraph)
    answer = asked(graph, accumulation(micro_steps))
    assert answer.predicted_ms == pytest.approx(expected, rel=1e-6)
    assert f"--accumulate {micro_steps}" in answer.options


def test_accumulation_and_smaller_buckets_combine() -> None:
    quiet = max(FORWARD_MS) + LAYERS * BACKWARD_MS + CALL_MS + OPTIMIZER_MS
    both = asked(ddp_run(), accumulation(4), buckets_of(1))
    assert both.predicted_ms == pytest.approx((3 * quiet + bucket_step_ms(1)) / 4, rel=1e-4)


def test_checkpointing_repeats_the_forward_pass_of_each_rank() -> None:
    answer = asked(ddp_run(marked=True), recomputation())
    expected = bucket_step_ms(LAYERS) + max(FORWARD_MS)
    assert answer.predicted_ms == pytest.approx(expected, rel=1e-4)
    assert "no work of a backward" in refusal(ddp_run(), recomputation())


def test_checkpointing_on_a_device_leaves_the_optimizer_alone() -> None:
    items: list[Item | StepItem] = []
    for k in range(STEPS):
        at = 65.0 * k
        items.append(step(k, at_ms=at, ms=65))
        kernels = (("forward", 0.01, 20), ("backward", 20.01, 39.9), ("adam", 59.91, 5))
        for i, (name, begin, length) in enumerate(kernels):
            launch = at + 0.001 + 0.002 * i
            items.append(kernel(name, at_ms=at + begin, ms=length, launched_at_ms=launch))
    graph = build_graph(*run_of(with_backward(rank_trace(*items))))
    assert isinstance(graph, StepGraph)
    answer = asked(graph, recomputation())
    # Device-bound: 85 ms; the host runs ahead, and nothing is lost between the kernels but 0.1 ms.
    assert answer.predicted_ms == pytest.approx(85, rel=3e-3)

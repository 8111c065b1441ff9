"""The unmodified replay of real captures of others: its error per file, or the refusal's reason."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from perfkit.analyzers.critical_path import critical_path, slack_ns
from perfkit.analyzers.graph import TOLERANCE, StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import ask, baseline, search
from perfkit.analyzers.whatif_changes import everything, network, no_launch_overhead
from perfkit.trace.run import load_rank, open_run

REPLAYED = {  # error of the step in percent, as docs/whatif.md shows it
    "own/gloo_ddp4": -0.02,
    "kineto/nanogpt_h100_8ranks": 0.00,
    "kineto/torchrec_resnet18_2ranks": 0.00,
    "kineto/torchrec_v100_4ranks_opt4": -0.39,
    "kineto/hta_ns_absolute.json.gz": 0.00,  # launches that waited for a full queue
    "kineto/hta_v100_5steps_54MB.json.gz": -0.01,
}
FSDP_BLOCK = r"FSDP::pre_forward \(\w+(\.block)?\.\d+\.(_checkpoint|layer\.0)"
NSIGHT = {  # no export has steps of a training: a block's forward stands for one
    "nsys/mfu_2gpu_before.sqlite.gz": -1.9,
    "nsys/h100_2gpu_1s.sqlite.gz": 0.0,
}
REFUSED = {
    "kineto/hta_a100_rank3_of_8.json.gz": "fbgemm",
    "kineto/hta_timeline_ranks_0_1_of_128": "elementwise_kernel",  # sampled: events are missing
    "tracelens/mi300_ddp_resnet.json.gz": "DtoD",
}


def built(path: Path) -> StepGraph | Refusal:
    return build_graph(open_run([path]), partial(load_rank, cache=None))


@pytest.mark.parametrize("name", REPLAYED)
def test_real_captures_replay_within_two_percent(shared_traces: Path, name: str) -> None:
    graph = built(shared_traces / name)
    assert isinstance(graph, StepGraph), graph
    assert abs(graph.replay_error) <= TOLERANCE
    assert 100 * graph.replay_error == pytest.approx(REPLAYED[name], abs=0.01)
    path = critical_path(graph.plan, graph.base)
    assert sum(path.by_kind_ns.values()) == pytest.approx(graph.base.makespan_ns)


@pytest.mark.parametrize("name", NSIGHT)
def test_nsight_exports_replay_within_two_percent(shared_traces: Path, name: str) -> None:
    run = open_run([shared_traces / name], step_pattern=FSDP_BLOCK)
    graph = build_graph(run, partial(load_rank, cache=None))
    assert isinstance(graph, StepGraph), graph
    assert len(graph.ranks) == 2 and graph.on_device
    assert 100 * graph.replay_error == pytest.approx(NSIGHT[name], abs=0.05)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_is_refused_with_the_unexplained_part(
    shared_traces: Path, name: str
) -> None:
    refusal = built(shared_traces / name)
    assert isinstance(refusal, Refusal)
    assert REFUSED[name] in refusal.reason and "without a recorded cause" in refusal.reason


def test_one_step_is_not_enough(shared_traces: Path) -> None:
    refusal = built(shared_traces / "kineto/dlrm_v100_8ranks")
    assert isinstance(refusal, Refusal) and "step 10 alone" in refusal.reason


def test_elasticities_of_a_real_run_equal_its_critical_path_shares(shared_traces: Path) -> None:
    graph = built(shared_traces / "kineto/torchrec_v100_4ranks_opt4")
    assert isinstance(graph, StepGraph)
    plan = graph.plan
    path = critical_path(plan, graph.base)
    step = 1e-7
    for kind in path.by_kind_ns:
        number = plan.graph.kinds.index(kind)
        scale = np.where(plan.graph.kind == number, 1 + step, 1.0)
        lags = np.where(plan.graph.edge_kind == number, 1 + step, 1.0)
        work = type(plan.unchanged)(
            duration_ns=plan.unchanged.duration_ns * scale, lag_ns=plan.unchanged.lag_ns * lags
        )
        moved = plan.run(work).makespan_ns
        elasticity = (moved / graph.base.makespan_ns - 1) / step
        assert elasticity == pytest.approx(path.shares[kind], abs=1e-4)
    assert slack_ns(plan, graph.base)[path.tasks] == pytest.approx(0, abs=1e-3)


def test_a_host_bound_run_gains_from_launches_and_not_from_the_network(
    shared_traces: Path,
) -> None:
    graph = built(shared_traces / "kineto/nanogpt_h100_8ranks")
    assert isinstance(graph, StepGraph)
    setting = baseline(graph, None)
    faster = ask(setting, [network(2)])
    launch = ask(setting, [no_launch_overhead()])
    assert not isinstance(faster, Refusal) and not isinstance(launch, Refusal)
    assert faster.speed_up == pytest.approx(1, abs=0.005)
    assert launch.speed_up > 1.2 and launch.next_bottleneck == "compute"
    assert search(setting, everything())[0].speed_up >= launch.speed_up

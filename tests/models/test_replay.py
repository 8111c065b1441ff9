"""Golden example B, elasticities, and the replay against an independent event simulation."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analyzers import replay_edit as edit
from perfkit.analyzers.critical_path import critical_path, slack_ns
from perfkit.analyzers.replay import CyclicGraphError, GraphBuilder, Plan, TaskGraph, Work

COMM = {"comm"}


def example_b() -> TaskGraph:
    """Return models.md 5.4: two ranks, input, launch, forward, two buckets, optimizer (ms)."""
    b = GraphBuilder()
    for rank, (input_ms, forward_ms) in enumerate([(10, 20), (2, 24)]):
        wait = b.task("input", input_ms, rank=rank, resource="host", key="input")
        launch = b.task("host", 1, rank=rank, resource="host", key="launch")
        b.task("compute", forward_ms, rank=rank, resource="C", after=[launch], key="F")
        first = b.task("compute", 15, rank=rank, resource="C", key="B1")
        ar1 = b.task("comm", 12, rank=rank, resource="N", after=[first], collective=1, key="AR1")
        second = b.task("compute", 15, rank=rank, resource="C", key="B2")
        ar2 = b.task("comm", 12, rank=rank, resource="N", after=[second], collective=2, key="AR2")
        b.task("compute", 5, rank=rank, resource="C", after=[ar1, ar2], key="O")
        assert wait < launch
    return b.build()


GRAPH = example_b()
PLAN = Plan(GRAPH)
BASE = PLAN.run()
FORWARD_BACKWARD = np.array([t for t in edit.of_kinds(GRAPH, {"compute"}) if
                             GRAPH.duration_ns[t] != 5])  # fmt: skip
ALL_REDUCES = edit.of_kinds(GRAPH, COMM).reshape(2, 2)  # rank, bucket


def one_bucket() -> Work:
    without = edit.replaced(PLAN.unchanged, ALL_REDUCES[:, 0], 0.0)
    return edit.replaced(without, ALL_REDUCES[:, 1], 22.0)


def half_precision() -> Work:
    return edit.replaced(PLAN.unchanged, FORWARD_BACKWARD, GRAPH.duration_ns[FORWARD_BACKWARD] / 2)


def no_stragglers() -> Work:
    chosen = edit.equalised(GRAPH, PLAN.unchanged, {"input", "compute"})
    return edit.equalised(GRAPH, chosen, COMM, statistic="median")


def test_the_baseline_and_its_critical_path() -> None:
    assert BASE.makespan_ns == 78
    path = critical_path(PLAN, BASE)
    assert path.length_ns == 78
    assert GRAPH.duration_ns[path.tasks].tolist() == [10, 1, 20, 15, 15, 12, 5]
    assert sum(path.by_kind_ns.values()) == 78 == sum(path.by_rank_ns.values())
    expected = {"compute": 0.7051, "comm": 0.1538, "input": 0.1282, "host": 0.0128}
    assert path.shares == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("work", "expected", "gain"),
    [
        (edit.scaled(GRAPH, PLAN.unchanged, COMM, 0.5), 72, 0.0769),
        (edit.scaled(GRAPH, PLAN.unchanged, {"input"}, 0), 72, 0.0769),
        (half_precision(), 57.5, 0.2628),
        (edit.scaled(GRAPH, PLAN.unchanged, COMM, 0), 66, 0.1538),
        (no_stragglers(), 76, 0.0256),
        (edit.scaled(GRAPH, PLAN.unchanged, {"host"}, 0), 77, 0.0128),
        (one_bucket(), 88, -0.1282),
    ],
    ids=["network x2", "no input stall", "AMP", "overlap", "stragglers", "launch 0", "one bucket"],
)
def test_the_seven_what_ifs(work: Work, expected: float, gain: float) -> None:
    fresh = PLAN.run(work)
    assert fresh.makespan_ns == expected
    assert 1 - fresh.makespan_ns / 78 == pytest.approx(gain, abs=5e-5)
    again = PLAN.run(work, base=BASE)
    assert again.makespan_ns == expected
    assert np.array_equal(again.end_ns, fresh.end_ns)


def test_perfect_overlap_still_needs_the_network() -> None:
    assert edit.busiest_ns(GRAPH, PLAN.unchanged, COMM) == 24
    assert edit.busiest_ns(GRAPH, PLAN.unchanged, {"nothing"}) == 0


def test_calls_that_are_under_way_together_share_the_link() -> None:
    """Two threads move a bucket each, 12 ms from 10 and from 16 ms on: 18 ms of the link."""
    b = GraphBuilder()
    for rank in range(2):
        first = b.task("compute", 10, rank=rank, resource="C")
        b.task("comm", 12, rank=rank, resource="N1", after=[first], collective=0)
        second = b.task("compute", 6, rank=rank, resource="C", after=[first])
        b.task("comm", 12, rank=rank, resource="N2", after=[second], collective=1)
    graph = b.build()
    plan = Plan(graph)
    base, half = plan.run(), edit.scaled(graph, plan.unchanged, COMM, 0.5)
    assert edit.busiest_ns(graph, plan.unchanged, COMM) == 12
    assert edit.busiest_link_ns(graph, base, plan.unchanged, COMM) == 18
    assert edit.busiest_link_ns(graph, base, half, COMM) == 9
    assert edit.busiest_link_ns(graph, base, plan.unchanged, {"nothing"}) == 0


def test_calls_to_other_ranks_go_over_other_links() -> None:
    """Rank 0 talks to rank 1 and, at the same time, to rank 2."""
    b = GraphBuilder()
    for number, other in enumerate((1, 2)):
        for rank in (0, other):
            b.task("comm", 12, rank=rank, resource=f"N{number}", collective=number)
    graph = b.build()
    plan = Plan(graph)
    assert edit.busiest_link_ns(graph, plan.run(), plan.unchanged, COMM) == 12


@pytest.mark.parametrize("kind", ["compute", "comm", "input", "host"])
def test_elasticities_equal_critical_path_shares(kind: str) -> None:
    share = critical_path(PLAN, BASE).shares[kind]
    step = 1e-6
    moved = PLAN.run(edit.scaled(GRAPH, PLAN.unchanged, {kind}, 1 + step)).makespan_ns
    assert (moved / 78 - 1) / step == pytest.approx(share, rel=1e-4)


# Random graphs ----------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> TaskGraph:
    """Ranks with a host, two streams and shared collectives, in an order that can be run."""
    ranks, b = draw(st.integers(1, 4)), GraphBuilder()
    done: dict[int, list[int]] = {rank: [] for rank in range(ranks)}
    for index in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            for rank in range(ranks):
                known = done[rank]
                after = [draw(st.sampled_from(known)) for _ in known[-2:]]
                size = draw(st.integers(0, 50))
                done[rank].append(
                    b.task("comm", size, rank=rank, resource="N", after=after, collective=index)
                )
        else:
            rank = draw(st.integers(0, ranks - 1))
            resource = draw(st.sampled_from(["host", "C"]))
            number = b.task(resource, draw(st.integers(0, 50)), rank=rank, resource=resource)
            if len(done[rank]) > 0 and draw(st.booleans()):
                lag = draw(st.integers(0, 9))
                b.edge(draw(st.sampled_from(done[rank])), number, lag_ns=lag)
            done[rank].append(number)
    return b.build()


def played(graph: TaskGraph) -> list[float]:
    """Return every task's end by asking again and again who can start: the independent oracle."""
    needs, end = requirements(graph), dict[int, float]()
    while len(end) < len(graph):
        for t in set(range(len(graph))) - set(end):
            same = graph.collective == graph.collective[t]
            members = np.nonzero(same)[0].tolist() if graph.collective[t] >= 0 else [t]
            wanted = [need for member in members for need in needs[member]]
            if all(s in end for s, _ in wanted):
                start = max((end[s] + lag for s, lag in wanted), default=0.0)
                end |= {m: start + float(graph.duration_ns[m]) for m in members}
    return [end[t] for t in range(len(graph))]


def requirements(graph: TaskGraph) -> list[list[tuple[int, float]]]:
    needs: list[list[tuple[int, float]]] = [[] for _ in range(len(graph))]
    last: dict[int, int] = {}
    for t, place in enumerate(graph.resource.tolist()):
        if place in last:
            needs[t].append((last[place], 0.0))
        last[place] = t
    for s, t, lag in zip(graph.edge_source, graph.edge_target, graph.edge_lag_ns, strict=True):
        needs[int(t)].append((int(s), float(lag)))
    return needs


@settings(max_examples=200, deadline=None)
@given(graphs(), st.data())
def test_replay_equals_an_event_loop_and_the_path_adds_up(
    graph: TaskGraph, data: st.DataObject
) -> None:
    plan = Plan(graph)
    schedule = plan.run()
    assert schedule.end_ns.tolist() == played(graph)
    path = critical_path(plan, schedule)
    assert sum(path.by_kind_ns.values()) == pytest.approx(schedule.makespan_ns)
    slack = slack_ns(plan, schedule)
    assert slack[path.tasks] == pytest.approx(0)
    chosen = data.draw(st.integers(0, len(graph) - 1))
    for extra in (0.0, 5.0):
        longer = graph.duration_ns.copy()
        longer[chosen] += slack[chosen] + extra
        work = Work(duration_ns=longer, lag_ns=graph.edge_lag_ns)
        moved = plan.run(work, base=schedule)
        assert moved.makespan_ns == pytest.approx(schedule.makespan_ns + extra)
        assert moved.end_ns.tolist() == plan.run(work).end_ns.tolist()


@settings(max_examples=50, deadline=None)
@given(graphs(), st.floats(0.1, 10))
def test_scaling_all_work_scales_the_makespan(graph: TaskGraph, factor: float) -> None:
    plan = Plan(graph)
    work = edit.scaled(graph, plan.unchanged, set(graph.kinds), factor)
    assert plan.run(work).makespan_ns == pytest.approx(plan.run().makespan_ns * factor)


def test_ranks_that_wait_for_each_other_are_refused() -> None:
    b = GraphBuilder()
    for rank, (first, second) in enumerate([("x", "y"), ("y", "x")]):
        b.task("comm", 1, rank=rank, resource="N", collective=first)
        b.task("comm", 1, rank=rank, resource="N", collective=second)
    with pytest.raises(CyclicGraphError, match="wait for each other"):
        Plan(b.build())


def test_an_empty_graph_takes_no_time() -> None:
    plan = Plan(GraphBuilder().build())
    schedule = plan.run()
    assert schedule.makespan_ns == 0 == critical_path(plan, schedule).length_ns


def test_medians_and_unknown_statistics() -> None:
    b = GraphBuilder()
    for rank, size in enumerate([1, 2, 9]):
        b.task("comm", size, rank=rank, resource="N", key="k")
    b.task("comm", 77, rank=0, resource="N")
    graph = b.build()
    plan = Plan(graph)
    work = edit.equalised(graph, plan.unchanged, COMM, statistic="median")
    assert work.duration_ns.tolist() == [2, 2, 2, 77]
    with pytest.raises(ValueError, match="unknown statistic"):
        edit.equalised(graph, plan.unchanged, COMM, statistic="mode")


def large(ranks: int, tasks: int) -> TaskGraph:
    """Return host threads that launch one kernel each and meet in a collective every hundred."""
    kernels = tasks // 2
    host = np.arange(kernels)
    per_rank = 2 * kernels
    base = (np.arange(ranks) * per_rank)[:, None]
    resource = np.concatenate([np.r_[np.full(kernels, 2 * r), np.full(kernels, 2 * r + 1)]
                               for r in range(ranks)])  # fmt: skip
    collective = np.full(ranks * per_rank, -1)
    meets = host[99::100]
    collective[(base + kernels + meets).ravel()] = np.tile(np.arange(len(meets)), ranks)
    edges = ranks * kernels
    return TaskGraph(
        duration_ns=np.random.default_rng(0).integers(1, 100, ranks * per_rank).astype(float),
        resource=resource,
        kind=resource % 2,
        rank=np.repeat(np.arange(ranks), per_rank),
        collective=collective,
        key=np.full(ranks * per_rank, -1),
        edge_source=(base + host).ravel(),
        edge_target=(base + kernels + host).ravel(),
        edge_lag_ns=np.full(edges, 3.0),
        edge_kind=np.zeros(edges, np.int64),
        kinds=("host", "device"),
    )


def test_a_graph_of_real_size_compiles_and_replays() -> None:
    graph = large(ranks=2, tasks=20_000)
    plan = Plan(graph)
    schedule = plan.run()
    path = critical_path(plan, schedule)
    assert sum(path.by_kind_ns.values()) == pytest.approx(schedule.makespan_ns)
    assert schedule.makespan_ns >= edit.busiest_ns(graph, plan.unchanged, {"device"})


if __name__ == "__main__":  # 8 ranks x 2 steps x 100k tasks
    whole = large(ranks=8, tasks=200_000)
    begin = time.perf_counter()
    compiled = Plan(whole)
    ready = time.perf_counter()
    compiled.run()
    print(f"{len(whole)} tasks, {compiled.nodes} nodes:")
    print(f"compiled {ready - begin:.2f} s, replayed {time.perf_counter() - ready:.2f} s")

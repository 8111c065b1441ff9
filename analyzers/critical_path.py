"""What decides the makespan of a replay: the critical path, its shares, and slack.

T is positively homogeneous in all durations, so a kind's share of the critical path *equals* the
elasticity of T to that kind (Euler), where the path is unique: a causal, exclusive and marginal
measure of the bottleneck. It holds for small changes; finite ones move the path, so replay them.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.replay import F64, I64, NONE, Plan, Schedule, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """The chain of tasks and lags that adds up to the makespan."""

    tasks: I64  # numbers of the tasks, in time order
    length_ns: float
    by_kind_ns: dict[str, float]  # sums to the length; lags under their edge's kind
    by_rank_ns: dict[int, float]  # tasks only

    @property
    def shares(self) -> dict[str, float]:
        """Each kind's share of the length: the elasticity of the makespan to that kind."""
        if not self.length_ns:
            return {}
        return {kind: ns / self.length_ns for kind, ns in self.by_kind_ns.items()}


def critical_path(plan: Plan, schedule: Schedule, work: Work | None = None) -> CriticalPath:
    """Walk back from the last end; `work` is what `schedule` was run with."""
    work = work or plan.unchanged
    graph = plan.graph
    if not len(graph):
        empty = np.zeros(0, np.int64)
        return CriticalPath(tasks=empty, length_ns=0.0, by_kind_ns={}, by_rank_ns={})
    ranges, lags = _walk_back(plan, schedule)
    tasks = plan.order[np.concatenate([np.arange(a, b + 1) for a, b in reversed(ranges)])]
    durations = work.duration_ns[tasks]
    by_kind = np.bincount(graph.kind[tasks], weights=durations, minlength=len(graph.kinds))
    if lags:
        edges = np.array(lags)
        by_kind += np.bincount(
            graph.edge_kind[edges], weights=work.lag_ns[edges], minlength=len(graph.kinds)
        )
    ranks, places = np.unique(graph.rank[tasks], return_inverse=True)
    by_rank = np.bincount(places, weights=durations)
    return CriticalPath(
        tasks=tasks,
        length_ns=schedule.makespan_ns,
        by_kind_ns={k: float(v) for k, v in zip(graph.kinds, by_kind, strict=True) if v},
        by_rank_ns={int(r): float(v) for r, v in zip(ranks, by_rank, strict=True)},
    )


def _walk_back(plan: Plan, schedule: Schedule) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the ranges of positions passed through, last first, and the lagged edges."""
    segment_of_node = np.full(plan.nodes, NONE, np.int64)
    segment_of_node[plan.node_of_segment] = np.arange(len(plan.first))
    position = int(plan.position[int(np.argmax(schedule.end_ns))])
    node = int(plan.node_of_segment[plan.segment[position]])
    ranges: list[tuple[int, int]] = []
    lags: list[int] = []
    while True:
        segment = int(segment_of_node[node])
        if segment >= 0:
            ranges.append((int(plan.first[segment]), position))
        edge = schedule.node_cause[node]
        if edge == NONE:
            return ranges, lags
        if plan.edge_original[edge] >= 0:
            lags.append(int(plan.edge_original[edge]))
        position, node = int(plan.edge_position[edge]), int(plan.edge_source[edge])


def slack_ns(plan: Plan, schedule: Schedule) -> F64:
    """Return how much longer each task could take, alone, before the makespan grows; shape (n,).

    Zero on every critical path; small values tell of paths that become critical next.
    """
    latest = [schedule.makespan_ns] * plan.nodes
    sources: list[int] = plan.edge_source.tolist()
    # The latest start of a node is bounded by what follows it, and by its own tasks' ends.
    ends = schedule.end_ns[plan.order]
    starts = np.array(schedule.node_start_ns)
    node_of_position = plan.node_of_segment[plan.segment]
    tail = np.zeros(plan.nodes)
    np.maximum.at(tail, node_of_position, ends - starts[node_of_position])
    for node in range(plan.nodes - 1, -1, -1):
        latest[node] = min(latest[node], schedule.makespan_ns - tail[node])
        for edge in range(plan.begin[node], plan.begin[node + 1]):
            bound = latest[node] - schedule.weights[edge]
            latest[sources[edge]] = min(latest[sources[edge]], bound)
    slack = _slack_of_positions(plan, schedule, np.array(latest))
    result = np.empty(len(slack))
    result[plan.order] = slack
    return result


def _slack_of_positions(plan: Plan, schedule: Schedule, latest: F64) -> F64:
    """Return slack by position: of a task, the least over what its end leads to."""
    starts = np.array(schedule.node_start_ns)
    weights = np.array(schedule.weights)
    ends = schedule.end_ns[plan.order]
    slack = np.full(len(plan.order), np.inf)
    last = np.append(plan.first[1:], len(plan.order)) - 1
    slack[last] = schedule.makespan_ns - ends[last]
    from_task = plan.edge_position >= 0
    room = latest[plan.edge_target] - (starts[plan.edge_source] + weights)
    np.minimum.at(slack, plan.edge_position[from_task], room[from_task])
    # A task delays everything behind it in its segment as well: a running minimum from the back.
    for first, end in zip(plan.first.tolist(), last.tolist(), strict=True):
        if end > first:
            part = slack[first : end + 1]
            part[:] = np.minimum.accumulate(part[::-1])[::-1]
    positive: F64 = np.maximum(slack, 0.0)
    return positive

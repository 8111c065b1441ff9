"""When every piece of work of a distributed step would run, given other durations: list scheduling.

A task runs on one resource (a thread, a stream), after the task before it there and after its
dependencies; the members of a collective start together, when the last of them is ready, and
take the transfer time. The order on each resource stays as observed. Under these rules the
makespan is the longest path of a directed acyclic graph, computed here on contracted segments:
runs of tasks that only wait for each other. Compile once, then replay for as many sets of
durations as wanted. Sources: Daydream (ATC'20), dPRO (MLSys'22), Lumos (MLSys'25); models.md 5.2.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NONE = -1
_Name = TypeVar("_Name", bound=Hashable)


class CyclicGraphError(ValueError):
    """Tasks wait for each other; `tasks` are some that do."""

    def __init__(self, tasks: Sequence[int]) -> None:
        super().__init__(f"{len(tasks)} tasks wait for each other")
        self.tasks = tuple(tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGraph:
    """Tasks in columns of shape (n,), dependencies in columns of shape (m,).

    Tasks of one resource run in the order of their index. `collective` numbers the super-node that
    a task belongs to (NONE: none). Tasks with the same `key` on different ranks are the same piece
    of work (NONE: no counterpart). A dependency's target starts `lag` after the source's end.
    """

    duration_ns: F64
    resource: I64
    kind: I64  # index into `kinds`
    rank: I64
    collective: I64
    key: I64
    edge_source: I64
    edge_target: I64
    edge_lag_ns: F64
    edge_kind: I64  # the kind that a lag is charged to
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.duration_ns)


class GraphBuilder:
    """Collects tasks and dependencies one by one; for graphs that are not built in columns."""

    def __init__(self) -> None:
        self._tasks: list[tuple[float, int, int, int, int, int]] = []
        self._edges: list[tuple[int, int, float, int]] = []
        self._kinds: dict[str, int] = {}
        self._resources: dict[Hashable, int] = {}
        self._collectives: dict[Hashable, int] = {}
        self._keys: dict[Hashable, int] = {}

    def task(  # noqa: PLR0913 - one row of a table
        self,
        kind: str,
        duration_ns: float,
        *,
        rank: int,
        resource: Hashable,
        after: Sequence[int] = (),
        collective: Hashable = None,
        key: Hashable = None,
    ) -> int:
        """Add a task behind the others of its resource; return its number."""
        number = len(self._tasks)
        place = _numbered(self._resources, (rank, resource))
        group = NONE if collective is None else _numbered(self._collectives, collective)
        same = NONE if key is None else _numbered(self._keys, key)
        kind_number = _numbered(self._kinds, kind)
        self._tasks.append((duration_ns, place, kind_number, rank, group, same))
        for source in after:
            self.edge(source, number)
        return number

    def edge(self, source: int, target: int, *, lag_ns: float = 0.0, kind: str = "lag") -> None:
        """Let `target` wait for the end of `source`, and `lag_ns` more."""
        number = _numbered(self._kinds, kind) if lag_ns else 0
        self._edges.append((source, target, lag_ns, number))

    def build(self) -> TaskGraph:
        """Return the graph."""
        tasks = np.array(self._tasks, np.float64).reshape(-1, 6).T
        edges = np.array(self._edges, np.float64).reshape(-1, 4).T
        ints = tasks[1:].astype(np.int64)
        return TaskGraph(
            duration_ns=tasks[0].copy(),
            resource=ints[0],
            kind=ints[1],
            rank=ints[2],
            collective=ints[3],
            key=ints[4],
            edge_source=edges[0].astype(np.int64),
            edge_target=edges[1].astype(np.int64),
            edge_lag_ns=edges[2].copy(),
            edge_kind=edges[3].astype(np.int64),
            kinds=tuple(self._kinds),
        )


def _numbered(table: dict[_Name, int], name: _Name) -> int:
    return table.setdefault(name, len(table))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a replay may change: the duration of every task, the lag of every dependency."""

    duration_ns: F64
    lag_ns: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One replay. Columns of tasks are in the graph's order."""

    makespan_ns: float
    start_ns: F64  # (n,)
    end_ns: F64  # (n,)
    # How the longest path came about, by contracted node in topological order.
    node_start_ns: list[float] = field(repr=False)
    node_cause: list[int] = field(repr=False)  # the edge that decided; NONE: free from the start
    weights: list[float] = field(repr=False)


class Plan:
    """A compiled graph: contracted into segments and ordered, ready for many replays."""

    def __init__(self, graph: TaskGraph) -> None:
        self.graph = graph
        self.order = np.lexsort((np.arange(len(graph)), graph.resource))  # position -> task
        self.position = np.empty(len(graph), np.int64)  # task -> position
        self.position[self.order] = np.arange(len(graph))
        self.segment, self.first = _segments(graph, self.order, self.position)
        edges = _edges(graph, self.order, self.position, self.segment, self.first)
        nodes = len(self.first) + edges.barriers
        rank_of_node = _topological(nodes, edges, self)
        by_target = np.argsort(rank_of_node[edges.target], kind="stable")
        self.edge_source = rank_of_node[edges.source[by_target]]
        self.edge_target = rank_of_node[edges.target[by_target]]
        self.edge_position = edges.position[by_target]
        self.edge_original = edges.original[by_target]
        counts = np.bincount(self.edge_target, minlength=nodes)
        self.begin: list[int] = [0, *np.cumsum(counts).tolist()]
        self.node_of_segment = rank_of_node[: len(self.first)]
        self._sources: list[int] = self.edge_source.tolist()
        self.unchanged = Work(duration_ns=graph.duration_ns, lag_ns=graph.edge_lag_ns)

    @property
    def nodes(self) -> int:
        """How many nodes the contracted graph has."""
        return len(self.begin) - 1

    def run(self, work: Work | None = None, *, base: Schedule | None = None) -> Schedule:
        """Schedule all tasks; with `base`, a replay of this plan, redo only what can differ."""
        work = work or self.unchanged
        offset = self._offsets(work.duration_ns)
        weights = self._weights(offset, work.lag_ns)
        starts, causes, resume = self._resume(weights, base)
        begin, sources = self.begin, self._sources
        for node in range(resume, len(begin) - 1):
            latest, cause = 0.0, NONE
            for edge in range(begin[node], begin[node + 1]):
                time = starts[sources[edge]] + weights[edge]
                if time > latest:
                    latest, cause = time, edge
            starts[node] = latest
            causes[node] = cause
        return self._as_schedule(work, offset, starts, causes, weights)

    def _offsets(self, duration_ns: F64) -> F64:
        """Return, by position, the end of each task counted from its segment's start."""
        total = np.concatenate([[0.0], np.cumsum(duration_ns[self.order])])
        offset: F64 = total[1:] - total[self.first[self.segment]]
        return offset

    def _weights(self, offset: F64, lag_ns: F64) -> list[float]:
        from_task = self.edge_position >= 0
        weights = np.zeros(len(self.edge_position))
        weights[from_task] = offset[self.edge_position[from_task]]
        lagged = self.edge_original >= 0
        weights[lagged] += lag_ns[self.edge_original[lagged]]
        listed: list[float] = weights.tolist()
        return listed

    def _resume(
        self, weights: list[float], base: Schedule | None
    ) -> tuple[list[float], list[int], int]:
        if base is None:
            return [0.0] * self.nodes, [NONE] * self.nodes, 0
        changed = np.nonzero(np.array(weights) != np.array(base.weights))[0]
        resume = int(self.edge_target[changed[0]]) if len(changed) else self.nodes
        return list(base.node_start_ns), list(base.node_cause), resume

    def _as_schedule(
        self,
        work: Work,
        offset: F64,
        starts: list[float],
        causes: list[int],
        weights: list[float],
    ) -> Schedule:
        segment_start = np.array(starts)[self.node_of_segment]
        end = np.empty(len(self.order))
        end[self.order] = segment_start[self.segment] + offset
        return Schedule(
            makespan_ns=float(end.max()) if len(end) else 0.0,
            start_ns=end - work.duration_ns,
            end_ns=end,
            node_start_ns=starts,
            node_cause=causes,
            weights=weights,
        )


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges between contracted nodes; barriers of collectives are numbered behind the segments."""

    source: I64
    target: I64
    position: I64  # of the task whose end counts; NONE: a barrier
    original: I64  # the graph's edge whose lag counts; NONE: none
    barriers: int


def _segments(graph: TaskGraph, order: I64, position: I64) -> tuple[I64, I64]:
    """Return each position's segment and each segment's first position."""
    n = len(graph)
    head = np.zeros(n, np.bool_)
    resources = graph.resource[order]
    head[:1] = True
    head[1:] = resources[1:] != resources[:-1]
    head[position[graph.edge_target]] = True
    head |= graph.collective[order] >= 0
    first = np.nonzero(head)[0]
    return np.cumsum(head) - 1, first


def _edges(graph: TaskGraph, order: I64, position: I64, segment: I64, first: I64) -> _Edges:
    segments, none = len(first), np.int64(NONE)
    barriers = int(graph.collective.max(initial=NONE)) + 1
    # A member's own requirements are its barrier's; the member waits for the barrier alone.
    group = graph.collective[order[first]]
    gate = np.where(group >= 0, segments + group, np.arange(segments))
    chained = np.nonzero((first > 0) & (graph.resource[order[first]]
                                        == graph.resource[order[first - 1]]))[0]  # fmt: skip
    before = first[chained] - 1
    members = np.nonzero(group >= 0)[0]
    sources, targets = position[graph.edge_source], position[graph.edge_target]
    return _Edges(
        source=np.concatenate([segment[before], gate[members], segment[sources]]),
        target=np.concatenate([gate[chained], members, gate[segment[targets]]]),
        position=np.concatenate([before, np.full(len(members), none), sources]),
        original=np.concatenate(
            [np.full(len(chained) + len(members), none), np.arange(len(graph.edge_source))]
        ),
        barriers=barriers,
    )


def _topological(nodes: int, edges: _Edges, plan: Plan) -> I64:
    """Return each node's place in a topological order (CyclicGraphError if there is none)."""
    waiting: list[int] = np.bincount(edges.target, minlength=nodes).tolist()
    by_source = np.argsort(edges.source, kind="stable")
    targets: list[int] = edges.target[by_source].tolist()
    counts = np.bincount(edges.source, minlength=nodes)
    begin: list[int] = [0, *np.cumsum(counts).tolist()]
    ready = [node for node in range(nodes) if not waiting[node]]
    place = np.full(nodes, NONE, np.int64)
    for done, node in enumerate(ready):  # grows while it is read
        place[node] = done
        for edge in range(begin[node], begin[node + 1]):
            target = targets[edge]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(ready) < nodes:
        stuck = np.nonzero(place[: len(plan.first)] < 0)[0]
        raise CyclicGraphError(plan.order[plan.first[stuck]][:20].tolist())
    return place

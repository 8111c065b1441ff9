"""Other durations for a task graph: the elementary edits that what-ifs are made of.

Each takes the work of a graph and returns another; none touches the structure, so that all run
on the same compiled plan. Merged buckets, too, are an edit: the parts cost nothing, the last
member carries the whole (it becomes ready last).
"""

from collections.abc import Collection

import numpy as np

from perfkit.analyzers.replay import I64, NONE, Schedule, TaskGraph, Work
from perfkit.trace.intervals import total_ns, union


def of_kinds(graph: TaskGraph, kinds: Collection[str]) -> I64:
    """Return the tasks of the named kinds."""
    wanted = [i for i, kind in enumerate(graph.kinds) if kind in kinds]
    return np.nonzero(np.isin(graph.kind, wanted))[0]


def scaled(graph: TaskGraph, work: Work, kinds: Collection[str], factor: float) -> Work:
    """Multiply all tasks and lags of some kinds; zero removes them."""
    duration, lag = work.duration_ns.copy(), work.lag_ns.copy()
    duration[of_kinds(graph, kinds)] *= factor
    wanted = [i for i, kind in enumerate(graph.kinds) if kind in kinds]
    lag[np.isin(graph.edge_kind, wanted)] *= factor
    return Work(duration_ns=duration, lag_ns=lag)


def replaced(work: Work, tasks: I64, duration_ns: float | np.ndarray) -> Work:
    """Give tasks new durations: one value, or one each."""
    duration = work.duration_ns.copy()
    duration[tasks] = duration_ns
    return Work(duration_ns=duration, lag_ns=work.lag_ns)


def equalised(
    graph: TaskGraph, work: Work, kinds: Collection[str], *, statistic: str = "mean"
) -> Work:
    """Give every rank the mean (or median) of the same piece of work, by `key`.

    Tasks without a counterpart keep their duration.
    """
    tasks = of_kinds(graph, kinds)
    tasks = tasks[graph.key[tasks] != NONE]
    keys, place = np.unique(graph.key[tasks], return_inverse=True)
    values = work.duration_ns[tasks]
    if statistic == "mean":
        common = np.bincount(place, weights=values) / np.bincount(place)
    elif statistic == "median":
        order = np.lexsort((values, place))
        starts = np.searchsorted(place[order], np.arange(len(keys)))
        counts = np.bincount(place)
        low = values[order][starts + (counts - 1) // 2]
        common = (low + values[order][starts + counts // 2]) / 2
    else:
        raise ValueError(f"unknown statistic {statistic!r}")
    return replaced(work, tasks, common[place])


def busiest_ns(graph: TaskGraph, work: Work, kinds: Collection[str]) -> float:
    """Return the most time that any one resource spends in some kinds: no overlap hides that."""
    tasks = of_kinds(graph, kinds)
    if not len(tasks):
        return 0.0
    _, place = np.unique(graph.resource[tasks], return_inverse=True)
    return float(np.bincount(place, weights=work.duration_ns[tasks]).max())


def busiest_link_ns(graph: TaskGraph, base: Schedule, work: Work, kinds: Collection[str]) -> float:
    """Return the most time that a rank's transfers with the same others take: none of it is hidden.

    Calls that are under way together, as on two of gloo's threads, share a link. In `base`, the
    replay of the graph as it is, they take as long as any of them is under way; with other
    durations, the same part of their sum.
    """
    tasks = of_kinds(graph, kinds)
    tasks = tasks[graph.collective[tasks] != NONE]
    if not len(tasks):
        return 0.0
    links = np.stack([graph.rank[tasks], _members(graph)[graph.collective[tasks]]])
    _, place = np.unique(links, axis=1, return_inverse=True)
    most = 0.0
    for number in range(int(place.max()) + 1):
        own = tasks[place == number]
        alone = float(graph.duration_ns[own].sum())
        if alone:
            begin = base.start_ns[own]
            together = total_ns(union(begin, begin + graph.duration_ns[own]))
            most = max(most, float(work.duration_ns[own].sum()) * together / alone)
    return most


def _members(graph: TaskGraph) -> I64:
    """Return a number for the ranks of each collective, shape (collectives,): equal if they are."""
    tasks = np.nonzero(graph.collective != NONE)[0]
    drawn = np.random.default_rng(0).integers(1, 2**40, int(graph.rank.max()) + 1)
    found = np.zeros(int(graph.collective.max()) + 1, np.int64)
    np.add.at(found, graph.collective[tasks], drawn[graph.rank[tasks]])
    return found

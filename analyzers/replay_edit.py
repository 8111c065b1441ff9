"""Other durations for a task graph: the elementary edits that what-ifs are made of.

Each takes the work of a graph and returns another; none touches the structure, so that all run
on the same compiled plan. Merged buckets, too, are an edit: the parts cost nothing, the last
member carries the whole (it becomes ready last).
"""

from collections.abc import Collection

import numpy as np

from perfkit.analyzers.replay import I64, NONE, TaskGraph, Work


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

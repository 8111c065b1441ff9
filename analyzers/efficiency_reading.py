"""The efficiency tree of a run, each factor with what it says and what it costs."""

from collections.abc import Mapping

from perfkit.analyzers.efficiency import ACCEPTABLE, EfficiencyTree, efficiency_tree
from perfkit.analyzers.graph import StepGraph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result_replay import Efficiency, EfficiencyFactor
from perfkit.analyzers.second_opinion import ideal_network_ratio
from perfkit.trace.kinds import ROLLUP, TimeClass
from perfkit.trace.model import I64
from perfkit.units import percent

_SAYS = {
    "load_balance": "ranks compute for {} of the time that the busiest one computes",
    "orchestration": "of computing and host work (Python, launches, syncs) {} is computing",
    "io": "of computing, host work, input, copies and checkpoints {} is the first two",
    "communication": "of the elapsed time {} is other than exposed communication",
    "serialisation": "with transfers that take no time, ranks would have work for {} of the step "
    "and wait for each other in the rest",
    "transfer": "with transfers that take no time, the step would take {} of its time",
}


def read_efficiency(tables: Mapping[int, I64], graph: StepGraph | Refusal) -> Efficiency | None:
    """Return the tree of the analysed steps, None where no rank computed.

    tables: per rank (steps, classes) in nanoseconds before blame.
    """
    if not tables:
        return None
    elapsed = max(int(table.sum()) for table in tables.values()) / 1e9
    ideal = None if isinstance(graph, Refusal) else elapsed * ideal_network_ratio(graph)
    tree = efficiency_tree(
        [_seconds(table, (TimeClass.COMPUTE,)) for table in tables.values()],
        elapsed,
        host_s=[_seconds(table, ROLLUP["host"]) for table in tables.values()],
        io_s=[_seconds(table, ROLLUP["io"]) for table in tables.values()],
        ideal_network_s=ideal,
    )
    if isinstance(tree, Refusal):
        return None
    contradicts = tree.serialisation is not None and tree.serialisation > 1.0
    return Efficiency(
        parallel=tree.parallel,
        factors=tuple(_factor(tree, name, hide=contradicts) for name in _SAYS),
        split=_why_not(graph, contradicts=contradicts),
    )


def _seconds(table: I64, classes: tuple[TimeClass, ...]) -> float:
    return int(table[:, list(classes)].sum()) / 1e9


def _factor(tree: EfficiencyTree, name: str, *, hide: bool) -> EfficiencyFactor:
    value: float | None = getattr(tree, name)
    if hide and name in ("serialisation", "transfer"):
        value = None
    return EfficiencyFactor(name=name, value=value, reading=_reading(name, value))


def _reading(name: str, value: float | None) -> str:
    if value is None:
        return "cannot tell: see communication, the product of serialisation and transfer"
    said = _SAYS[name].format(percent(value))
    return said if value < ACCEPTABLE else f"{said} (acceptable)"


def _why_not(graph: StepGraph | Refusal, *, contradicts: bool) -> str:
    if isinstance(graph, Refusal):
        return f"the run cannot be replayed: {graph}"
    if contradicts:
        return (
            "on an ideal network the replay would be shorter than the ranks' own work: overlap "
            "with compute leaves nothing to tell apart"
        )
    return ""

"""The operator calls of a rank: what each cost, how long it took, what could not be costed."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfkit.roofline.cost import OpCost, Unit
from perfkit.roofline.dtypes import ElementType, element_type, is_floating
from perfkit.roofline.modules import module_rows
from perfkit.roofline.nesting import Nesting, busy_per_group, nest
from perfkit.roofline.table import cost, known, why_not
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, Bool, Events, RankTrace

COMPUTE_KINDS = (Kind.KERNEL, Kind.MEMSET, Kind.MEMCPY_D2D)
COPY_KINDS = {Kind.MEMCPY_H2D: "h2d", Kind.MEMCPY_D2H: "d2h", Kind.MEMCPY_P2P: "p2p"}

WITHOUT_INNER = "no formula; its time without the operators that it calls"
"""Why an operator around others has no cost: only what it does between them is left."""

_TF32 = re.compile(r"tf32|s1688", re.IGNORECASE)
_OPAQUE = re.compile(r"OpaqueType<(\d)u?>")
_BY_SIZE = {8: "double", 4: "float", 2: "bfloat16", 1: "byte"}
_TYPES_IN_KERNELS = (
    ("c10::BFloat16", re.compile(r"BFloat16|bfloat16|bf16")),
    ("c10::Half", re.compile(r"c10::Half|__half|f16")),
    ("double", re.compile(r"<double|double,")),
    ("float", re.compile(r"<float|float,")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallGroup:
    """All calls of one operator with the same inputs in the analysed steps."""

    name: str
    dims: str  # input shapes, for reading
    cost: OpCost  # of one call
    recomputed: bool
    calls: int
    launches: int  # kernels, or on a CPU the calls themselves
    time_ns: int  # summed over calls; overlapping kernels of one call count once


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncosted:
    """Time under a name that no formula covers."""

    name: str
    kind: str  # operator, kernel, framework (autograd's bookkeeping around operators)
    calls: int
    time_ns: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What a rank computed in the analysed steps."""

    groups: tuple[CallGroup, ...]
    uncosted: tuple[Uncosted, ...]
    compute_ns: int  # time in which at least one of all these was running
    copies: tuple["HostCopies", ...]
    modules: Mapping[str, tuple[CallGroup, ...]]  # by innermost nn.Module; empty: none recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCopies:
    """Copies between host and device, or devices, in one direction."""

    direction: str  # h2d, d2h, p2p
    calls: int
    bytes: int
    time_ns: int


def calls_of(trace: RankTrace, steps: frozenset[int]) -> Calls:
    """Group the operator calls of those steps; on a device their kernels carry the time."""
    tables = Costs(trace)
    nesting = nest(trace.events, tables.is_known)
    if trace.device_kind == "cpu":
        return _host_calls(trace, steps, nesting, tables)
    return _device_calls(trace, steps, nesting, tables)


class Costs:
    """Costs by (operator, inputs), computed once each."""

    def __init__(self, trace: RankTrace) -> None:
        self.events = trace.events
        self.on_cpu = trace.device_kind == "cpu"
        self.usual = _usual_type(trace.events)
        self._known: dict[tuple[int, int], bool] = {}

    def name(self, row: int) -> str:
        """The row's name."""
        return self.events.names[int(self.events.name[row])]

    def is_known(self, row: int) -> bool:
        """Whether this row has a cost, given an element type for tensor lists."""
        key = (int(self.events.name[row]), int(self.events.shape[row]))
        if key not in self._known:
            self._known[key] = self.cost(row, element_type("float")) is not None
        return self._known[key]

    def cost(self, row: int, list_type: ElementType | None) -> OpCost | None:
        """The cost of this row's call."""
        shape = int(self.events.shape[row])
        if shape == NONE:
            return None
        name = self.name(row)
        if self.on_cpu and name.startswith("aten::_foreach_"):
            return None  # the operators inside carry their element types
        return cost(name, self.events.shapes[shape], list_type=list_type)


def _usual_type(events: Events) -> ElementType | None:
    """The floating type that most recorded tensors have."""
    found: Counter[str] = Counter()
    for shape in events.shapes:
        found.update(shape.dtypes)
    for spelling, _ in found.most_common():
        kind = element_type(spelling)
        if kind is not None and is_floating(kind.precision):
            return kind
    return None


def _type_in_kernels(kernels: Iterable[str]) -> ElementType | None:
    """The element type that kernel names show in their template arguments."""
    for kernel in kernels:
        opaque = _OPAQUE.search(kernel)
        if opaque:
            return element_type(_BY_SIZE.get(int(opaque.group(1)), ""))
        for spelling, pattern in _TYPES_IN_KERNELS:
            if pattern.search(kernel):
                return element_type(spelling)
    return None


def _device_calls(trace: RankTrace, steps: frozenset[int], nesting: Nesting, costs: Costs) -> Calls:
    events = trace.events
    chosen = np.isin(events.step, list(steps))
    work = np.flatnonzero(np.isin(events.kind, COMPUTE_KINDS) & chosen)
    issuer = events.op[work]
    owner = np.where(issuer >= 0, nesting.owner[issuer], NONE)
    owned = owner >= 0
    rows, index = np.unique(owner[owned], return_inverse=True)
    devices = work[owned]
    busy = busy_per_group(events.start_ns[devices], events.end_ns[devices], index, len(rows))
    launches = np.bincount(index, minlength=len(rows))
    kernels: list[set[int]] = [set() for _ in rows]
    for position, name in zip(index.tolist(), events.name[devices].tolist(), strict=True):
        kernels[position].add(name)
    grouping = _Grouping(costs, nesting)
    for position, row in enumerate(rows.tolist()):
        names = [events.names[name] for name in kernels[position]]
        grouping.add(row, int(busy[position]), int(launches[position]), names)
    for row in work[~owned].tolist():
        grouping.leave(row, _uncosted_device(events, row), int(events.duration_ns[row]))
    everything = np.zeros(len(work), np.int64)
    compute = busy_per_group(events.start_ns[work], events.end_ns[work], everything, 1)
    return Calls(
        groups=grouping.groups(),
        uncosted=grouping.uncosted(),
        compute_ns=int(compute[0]),
        copies=_copies(events, chosen),
        modules=grouping.modules(),
    )


def _uncosted_device(events: Events, row: int) -> tuple[str, str]:
    """Name and kind under which device work without an owner is listed."""
    issuer = int(events.op[row])
    if issuer >= 0 and not events.names[events.name[issuer]].startswith("autograd::"):
        return events.names[events.name[issuer]], "operator"
    return events.names[events.name[row]], "kernel"


def _host_calls(trace: RankTrace, steps: frozenset[int], nesting: Nesting, costs: Costs) -> Calls:
    events = trace.events
    training = np.isin(events.thread, trace.training_threads)
    chosen = np.isin(events.step, list(steps)) & (events.kind == Kind.OP) & training
    rows = np.flatnonzero(chosen)
    grouping = _Grouping(costs, nesting)
    for row in rows[nesting.owner[rows] == rows].tolist():
        grouping.add(row, int(events.duration_ns[row]), 1, [])
    for row in rows[nesting.owner[rows] == NONE].tolist():
        if not _is_communication(events.names[events.name[row]]):
            grouping.leave(row, _uncosted_host(events, row), int(nesting.self_ns[row]))
    return Calls(
        groups=grouping.groups(),
        uncosted=grouping.uncosted(),
        compute_ns=grouping.total_ns,
        copies=(),
        modules=grouping.modules(),
    )


def _uncosted_host(events: Events, row: int) -> tuple[str, str]:
    """Name and kind under which an operator's own time is listed; autograd's nodes are one line."""
    name = events.names[int(events.name[row])]
    if name.startswith(("autograd::", "torch::autograd::")) or "::" not in name:
        return "autograd and other bookkeeping", "framework"
    return name, "operator"


def _is_communication(name: str) -> bool:
    return name.startswith(("c10d::", "record_param_comms"))


class _Grouping:
    """Collects calls by operator, inputs and precision."""

    def __init__(self, costs: Costs, nesting: Nesting) -> None:
        self._costs = costs
        self._nesting = nesting
        self._sums: dict[tuple[str, int, OpCost, bool], list[int]] = {}
        self._module = module_rows(costs.events, nesting.parent)
        self._in_module: dict[int, dict[tuple[str, int, OpCost, bool], list[int]]] = {}
        self._left: dict[tuple[str, str, str], list[int]] = {}
        outer = nesting.parent[nesting.parent != NONE]
        self._callers = frozenset(costs.events.name[outer].tolist())
        self.total_ns = 0

    def add(self, row: int, time_ns: int, launches: int, kernels: list[str]) -> None:
        """One call with its cost, its time and the kernels that carried it out."""
        list_type = _type_in_kernels(kernels) if kernels else self._costs.usual
        found = self._costs.cost(row, list_type)
        if found is None:
            where = (self._costs.name(row), "operator")
            self.leave(row, where, time_ns, "the element type of its tensor lists is not recorded")
            return
        if found.unit == Unit.TENSOR and found.precision == "fp32" and _uses_tf32(kernels):
            found = _with_precision(found, "tf32")
        events, again = self._costs.events, bool(self._nesting.recomputed[row])
        key = (self._costs.name(row), int(events.shape[row]), found, again)
        _add(self._sums.setdefault(key, [0, 0, 0]), 1, launches, time_ns)
        module = int(self._module[row])
        if module != NONE:
            sums = self._in_module.setdefault(int(events.name[module]), {})
            _add(sums.setdefault(key, [0, 0, 0]), 1, launches, time_ns)
        self.total_ns += time_ns

    def leave(self, row: int, where: tuple[str, str], time_ns: int, why: str = "") -> None:
        """Time without a cost."""
        if time_ns <= 0:
            return
        name, kind = where
        reason = why or ("no work of its own" if kind == "framework" else self._reason(row))
        _add(self._left.setdefault((name, kind, reason), [0, 0]), 1, time_ns)
        self.total_ns += time_ns

    def _reason(self, row: int) -> str:
        events = self._costs.events
        issuer = int(events.op[row]) if events.kind[row] >= Kind.KERNEL else row
        if issuer < 0:
            return "no operator launched it in this capture"
        if int(events.shape[issuer]) == NONE:
            return "no shapes recorded"
        name = self._costs.name(issuer)
        if known(name):
            missing = why_not(name, events.shapes[int(events.shape[issuer])])
            return missing or "its recorded inputs do not tell"
        return WITHOUT_INNER if issuer == row and self._calls_others(row) else "no formula"

    def _calls_others(self, row: int) -> bool:
        return int(self._costs.events.name[row]) in self._callers

    def groups(self) -> tuple[CallGroup, ...]:
        """Groups, most time first."""
        return self._as_groups(self._sums)

    def modules(self) -> Mapping[str, tuple[CallGroup, ...]]:
        """The same groups for each module by its recorded name."""
        names = self._costs.events.names
        return {names[name]: self._as_groups(sums) for name, sums in self._in_module.items()}

    def _as_groups(
        self, sums: Mapping[tuple[str, int, OpCost, bool], list[int]]
    ) -> tuple[CallGroup, ...]:
        shapes = self._costs.events.shapes
        found = [
            CallGroup(
                name=name,
                dims=readable(shapes[shape].dims),
                cost=one,
                recomputed=again,
                calls=calls,
                launches=launches,
                time_ns=time_ns,
            )
            for (name, shape, one, again), (calls, launches, time_ns) in sums.items()
        ]
        return tuple(sorted(found, key=lambda g: (-g.time_ns, g.name, g.dims)))

    def uncosted(self) -> tuple[Uncosted, ...]:
        """What has no cost, most time first."""
        found = [
            Uncosted(name=name, kind=kind, calls=calls, time_ns=time_ns, why=why)
            for (name, kind, why), (calls, time_ns) in self._left.items()
        ]
        return tuple(sorted(found, key=lambda u: (-u.time_ns, u.name)))


def _add(sums: list[int], *values: int) -> None:
    for position, value in enumerate(values):
        sums[position] += value


def _uses_tf32(kernels: Iterable[str]) -> bool:
    return any(_TF32.search(kernel) for kernel in kernels)


def _with_precision(found: OpCost, precision: str) -> OpCost:
    return replace(found, precision=precision)


def readable(dims: tuple[object, ...]) -> str:
    """Shapes without the scalars: "8944x1024, 1024x2816"; tensor lists as their length."""
    shown = []
    for entry in dims:
        if not isinstance(entry, tuple | list) or not entry:
            continue
        if isinstance(entry[0], tuple | list):
            shown.append(f"list of {len(entry)}")
        else:
            shown.append("x".join(str(size) for size in entry))
    return ", ".join(shown)


def _copies(events: Events, chosen: Bool) -> tuple[HostCopies, ...]:
    found = []
    for kind, direction in COPY_KINDS.items():
        rows = np.flatnonzero((events.kind == kind) & chosen)
        if len(rows):
            sizes: I64 = np.maximum(events.size_bytes[rows], 0)
            found.append(
                HostCopies(
                    direction=direction,
                    calls=len(rows),
                    bytes=int(sizes.sum()),
                    time_ns=int(events.duration_ns[rows].sum()),
                )
            )
    return tuple(found)

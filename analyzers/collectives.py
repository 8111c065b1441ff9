"""One row per kind of collective: how often, how long, how exposed, how fast, who is late.

Bandwidths follow nccl-tests: algbw = S / t, busbw = algbw x the factor of the operation, with t the
time of the link and GB = 1e9 bytes (NVIDIA/nccl-tests doc/PERFORMANCE.md; models.md 3.1). Where
calls of one group are under way together, as with gloo, each has its part of that time: link_time.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfkit.analyzers.blame import RankView
from perfkit.analyzers.collective_split import InstanceTimes
from perfkit.analyzers.link_time import link_ns, once_ns
from perfkit.analyzers.matching import Instance
from perfkit.analyzers.result import CollectiveRow
from perfkit.roofline import step
from perfkit.roofline.collective_cost import algorithm_bandwidth_byte_per_s, bus_factor
from perfkit.trace.intervals import overlap_ns
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, NONE

WITHOUT_DATA = step.WITHOUT_DATA | {""}


@dataclass(frozen=True, slots=True)
class _Kind:
    """What makes calls one row; `ranks` is 0 where the group is unknown."""

    group: str
    name: str
    dtype: str
    size_bytes: int
    ranks: int
    matched_by: str


@dataclass(frozen=True, slots=True)
class _Call:
    rank: int
    instance: int
    wait_ns: int
    link_ns: float  # nan: unmatched
    exposed_link_ns: float
    exposed_ns: float
    once_ns: float
    duration_ns: int


def collective_rows(
    views: Mapping[int, RankView], instances: Sequence[Instance], times: InstanceTimes
) -> tuple[CollectiveRow, ...]:
    """Sum the calls that the analysed steps issued, the longest kind first."""
    kinds: dict[_Kind, list[_Call]] = defaultdict(list)
    for rank, view in views.items():
        calls, split = view.calls, view.split
        compute = view.parts.of(TimeClass.COMPUTE)
        once, exposed = once_ns(calls), once_ns(calls, compute)
        waits, link = split.wait_end_ns - calls.start_ns, link_ns(calls, split)
        moving = np.maximum(calls.end_ns - split.wait_end_ns, 1)
        alone = 1.0 - overlap_ns(compute, split.wait_end_ns, calls.end_ns) / moving
        for row in np.flatnonzero(np.isin(calls.step, view.windows.step)).tolist():
            kind = _kind_of(view, row, instances)
            number = int(split.instance[row])
            kinds[kind].append(
                _Call(
                    rank=rank,
                    instance=number,
                    wait_ns=int(waits[row]),
                    link_ns=float(link[row]),
                    exposed_link_ns=float(link[row] * alone[row]),
                    exposed_ns=float(exposed[row]),
                    once_ns=float(once[row]),
                    duration_ns=int(calls.duration_ns[row]),
                )
            )
    rows = [_row(kind, calls, views, times) for kind, calls in kinds.items()]
    rows.sort(key=lambda r: (-r.count * ((r.transfer_ms or 0) + r.exposed_ms), r.group, r.name))
    return tuple(rows)


def _kind_of(view: RankView, row: int, instances: Sequence[Instance]) -> _Kind:
    calls, number = view.calls, int(view.split.instance[row])
    group = calls.group[row]
    return _Kind(
        group=group.title if group is not None else "",
        name=calls.op[row],
        dtype=calls.dtype[row],
        size_bytes=int(calls.size_bytes[row]),
        ranks=_participants(instances, number) or (len(group.ranks) if group else 0),
        matched_by=instances[number].matched_by if number != NONE else "unmatched",
    )


def _participants(instances: Sequence[Instance], number: int) -> int:
    return len(instances[number].members) if number != NONE else 0


def _row(
    kind: _Kind, calls: Sequence[_Call], views: Mapping[int, RankView], times: InstanceTimes
) -> CollectiveRow:
    ranks = {call.rank for call in calls}
    steps = len(next(iter(views.values())).windows.step)
    numbers: I64 = np.unique([c.instance for c in calls if c.instance != NONE])
    transfer = exposed = wait = algbw = factor = None
    if len(numbers):
        transfer = float(np.mean([c.link_ns for c in calls if c.instance != NONE])) / 1e6
        exposed = float(np.mean([c.exposed_link_ns for c in calls if c.instance != NONE])) / 1e6
        wait = float(np.mean([c.wait_ns for c in calls])) / 1e6
    if transfer and kind.ranks > 1 and kind.size_bytes > 0 and kind.name not in WITHOUT_DATA:
        algbw = algorithm_bandwidth_byte_per_s(kind.size_bytes, transfer / 1e3) / 1e9
        factor = bus_factor(kind.name, kind.ranks)
    last = Counter(str(int(times.last_rank[n])) for n in numbers.tolist())
    return CollectiveRow(
        group=kind.group,
        name=kind.name,
        dtype=kind.dtype,
        bytes=kind.size_bytes if kind.size_bytes != NONE else None,
        ranks=kind.ranks or len(ranks),
        count=len(calls) / max(steps, 1) / len(ranks),
        transfer_ms=transfer,
        wait_ms=wait,
        exposed_ms=float(np.mean([c.exposed_ns for c in calls])) / 1e6,
        algbw_gbyte_per_s=algbw,
        busbw_gbyte_per_s=algbw * factor if algbw is not None and factor is not None else None,
        last_arriver=dict(sorted(last.items(), key=lambda item: int(item[0]))),
        matched_by=kind.matched_by,
        duration_ms=float(np.mean([c.duration_ns for c in calls])) / 1e6,
        once_ms=float(np.mean([c.once_ns for c in calls])) / 1e6,
        exposed_transfer_ms=exposed,
        callers_share=len(ranks) / len(views),
    )

"""What each process group is for: data, tensor, pipeline or expert parallelism.

The rule, in this order; what it does not decide is "cannot tell":

1. The group's description names it (torch's device meshes and Megatron do).
2. Only sends and receives: pipeline.
3. All ranks of the job, collectives of gradients only, and DDP wraps the model: data.
4. Groups of neighbours and groups across them divide the job (every neighbour group meets every
   group across it in one rank): if the neighbours all-reduce, they are tensor parallel and the
   others data parallel; all-gather and reduce-scatter alone may as well be sharded data parallel.
5. A group that only exchanges all-to-all inside a larger group of data parallelism: expert.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from perfkit.analyzers.calls import POINT_TO_POINT, Calls, Group

DATA, TENSOR, PIPELINE, EXPERT, CONTEXT = "data", "tensor", "pipeline", "expert", "context"
CANNOT_TELL = "cannot tell"

_NAMED = (
    (EXPERT, re.compile(r"(?<![a-z])(ep|expert)(?![a-z])")),
    (TENSOR, re.compile(r"(?<![a-z])(tp|tensor)(?![a-z])")),
    (PIPELINE, re.compile(r"(?<![a-z])(pp|pipe|pipeline)(?![a-z])")),
    (CONTEXT, re.compile(r"(?<![a-z])(cp|context|sp|sequence)(?![a-z])")),
    (DATA, re.compile(r"(?<![a-z])(dp|ddp|fsdp|data|replicate|shard)(?![a-z])")),
)
_GRADIENTS = frozenset({"all_reduce", "broadcast", "barrier", "all_gather", "reduce_scatter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUse:
    """One process group as it was used."""

    title: str
    description: str
    ranks: tuple[int, ...]  # () where the capture does not say
    operations: frozenset[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a group is for, and by which part of the rule."""

    name: str
    because: str


ONLY_BETWEEN_TWO = Kind(PIPELINE, "it only sends and receives between two ranks")


def kinds_of(
    groups: Sequence[GroupUse], world_size: int, *, data_parallel: bool
) -> dict[str, Kind]:
    """Decide each group by its title; `data_parallel`: DDP is known to wrap the model."""
    found = {g.title: _alone(g, world_size, data_parallel=data_parallel) for g in groups}
    _divide(groups, world_size, found)
    _experts(groups, found)
    return {
        group.title: found[group.title] or Kind(CANNOT_TELL, _why_not(group, world_size))
        for group in groups
    }


def _alone(group: GroupUse, world_size: int, *, data_parallel: bool) -> Kind | None:
    """Decide by the group itself: its name, its operations, its size."""
    name = group.description.lower().replace("model_parallel", "").replace("data_pipe", "")
    named = [kind for kind, pattern in _NAMED if pattern.search(name)]
    if len(named) == 1:
        return Kind(named[0], "its description says so")
    if group.operations and group.operations <= POINT_TO_POINT:
        return ONLY_BETWEEN_TWO
    whole = len(group.ranks) == world_size > 1
    if whole and data_parallel and group.operations <= _GRADIENTS:
        return Kind(DATA, "it holds all ranks, and DistributedDataParallel wraps the model")
    return None


def _divide(groups: Sequence[GroupUse], world_size: int, found: dict[str, Kind | None]) -> None:
    """Decide groups of neighbours and groups across them."""
    near = [g for g in groups if _stride(g.ranks) == 1 and len(g.ranks) < world_size]
    sizes = {len(g.ranks) for g in near}
    for size in sizes:
        neighbours = [g for g in near if len(g.ranks) == size]
        across = [
            g for g in groups if _stride(g.ranks) == size and len(g.ranks) * size == world_size
        ]
        if not across or not _meet_once(neighbours, across):
            continue
        if any("all_reduce" in g.operations for g in neighbours):
            _settle(found, neighbours, Kind(TENSOR, "neighbouring ranks all-reduce in it"))
            _settle(found, across, Kind(DATA, "it joins the ranks of equal place in such groups"))


def _settle(found: dict[str, Kind | None], groups: Iterable[GroupUse], kind: Kind) -> None:
    for group in groups:
        found[group.title] = found[group.title] or kind


def _meet_once(first: Sequence[GroupUse], second: Sequence[GroupUse]) -> bool:
    return all(len(set(a.ranks) & set(b.ranks)) == 1 for a in first for b in second)


def _experts(groups: Sequence[GroupUse], found: dict[str, Kind | None]) -> None:
    data = [set(g.ranks) for g in groups if (k := found[g.title]) is not None and k.name == DATA]
    for group in groups:
        only = group.operations == frozenset({"all_to_all"}) and bool(group.ranks)
        inside = any(set(group.ranks) <= ranks for ranks in data)
        if found[group.title] is None and only and inside:
            found[group.title] = Kind(EXPERT, "it exchanges all-to-all inside a data group")


def _stride(ranks: Sequence[int]) -> int | None:
    """Return the constant distance of the ranks, None where there is none."""
    steps = {b - a for a, b in pairwise(ranks)}
    return steps.pop() if len(steps) == 1 else None


def _why_not(group: GroupUse, world_size: int) -> str:
    if not group.ranks:
        return "the capture does not say which ranks are in it"
    if len(group.ranks) == world_size:
        return "a group of all ranks may be data or tensor parallel"
    return "neither its name, its operations nor its ranks decide it"


def group_uses(tables: Iterable[Calls]) -> list[GroupUse]:
    """Collect the groups of all ranks' calls; one title for several rank sets has none."""
    operations: dict[str, set[str]] = {}
    known: dict[str, Group] = {}
    torn: set[str] = set()
    for calls in tables:
        for group, op in set(zip(calls.group, calls.op, strict=True)):
            if group is not None:
                operations.setdefault(group.title, set()).add(op)
                if known.setdefault(group.title, group).ranks != group.ranks:
                    torn.add(group.title)
    return [
        GroupUse(
            title=title,
            description=known[title].description,
            ranks=() if title in torn else known[title].ranks,
            operations=frozenset(operations[title]),
        )
        for title in sorted(known)
    ]

"""How a run spreads its model over ranks, told from what it exchanges in which pass.

The rule, group by group; what it does not decide is "cannot tell":

1. All-reduces of whole activations in the forward pass and again in the backward pass, or
   reduce-scatters in the forward pass: tensor parallel (Megatron, with sequence parallelism).
2. Gradients reduce-scattered outside the forward pass, parameters gathered in both passes: fully
   sharded (FSDP, ZeRO-3). Where the capture does not tell passes apart: gathered at least 1.5
   times as many elements as scattered.
3. Gradients reduce-scattered, parameters gathered once: sharded optimizer or gradients (ZeRO-1/2),
   or FSDP that keeps its parameters after the forward pass; all send the same bytes.
4. Gradients all-reduced outside the forward pass: replicated (DDP). Where passes are not told
   apart, only if DistributedDataParallel is known to wrap the model.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from perfkit.roofline.network import Sharding, volume_bytes
from perfkit.roofline.traffic import GroupTraffic, Phase

TENSOR = "tensor"
GATHERED_TWICE = 1.5
NEGLIGIBLE = 0.05
"""Share of an operation's elements in a pass below which it does not count as used there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """What one group is for. kind: ddp, zero, fsdp, tensor, or "" for cannot tell."""

    kind: str
    group: str
    ranks: int
    nodes: int | None
    item_bytes: float | None  # mean over what it exchanges; None: types are not recorded
    elements: float  # reduced per step: parameters times synchronisations, unless kind is tensor
    because: str  # by which evidence, or why it cannot be told

    @property
    def sharding(self) -> Sharding | None:
        """How ranks share the model if this is a kind of data parallelism."""
        return Sharding(self.kind) if self.kind in tuple(Sharding) else None

    @property
    def bus_bytes(self) -> float | None:
        """Bus bytes per rank and step by the closed form; None for tensor groups."""
        if self.sharding is None or self.item_bytes is None:
            return None
        return volume_bytes(self.sharding, self.elements, self.ranks, self.item_bytes)


def parallelism_of(traffic: Iterable[GroupTraffic], *, ddp: bool) -> tuple[Parallelism, ...]:
    """Decide each group. ddp: DistributedDataParallel is known to wrap the model."""
    return tuple(_decide(group, ddp=ddp) for group in traffic)


def _decide(group: GroupTraffic, *, ddp: bool) -> Parallelism:
    kind, because = _tensor(group) or _sharded(group) or _replicated(group, ddp=ddp)
    scatters = group.elements("reduce_scatter") > 0
    reduced = "reduce_scatter" if scatters else "all_reduce"
    shards = scatters or kind == Sharding.FSDP
    exchanged = (reduced, "all_gather") if shards else (reduced,)
    return Parallelism(
        kind=kind,
        group=group.group,
        ranks=len(group.ranks),
        nodes=group.nodes,
        item_bytes=group.item_bytes(*exchanged),
        elements=group.elements(reduced),
        because=because,
    )


def _used(group: GroupTraffic, collective: str, phase: Phase) -> bool:
    whole = group.elements(collective)
    return whole > 0 and group.elements(collective, phase) > NEGLIGIBLE * whole


def _tensor(group: GroupTraffic) -> tuple[str, str] | None:
    forward, backward = Phase.FORWARD, Phase.BACKWARD
    if _used(group, "all_reduce", forward) and _used(group, "all_reduce", backward):
        return TENSOR, "it all-reduces inside the forward pass and inside the backward pass"
    if _used(group, "reduce_scatter", forward) and _used(group, "all_gather", backward):
        return TENSOR, "it reduce-scatters inside the forward pass and gathers in the backward pass"
    return None


def _sharded(group: GroupTraffic) -> tuple[str, str] | None:
    scattered, gathered = group.elements("reduce_scatter"), group.elements("all_gather")
    if not gathered or _used(group, "reduce_scatter", Phase.FORWARD):
        return None
    twice = all(_used(group, "all_gather", phase) for phase in (Phase.FORWARD, Phase.BACKWARD))
    if not scattered:
        return _scattered_by_all_reduce(group) if twice else None
    if group.phases_known:
        if twice:
            why = "parameters are gathered in both passes, gradients reduce-scattered"
            return Sharding.FSDP.value, why
        return Sharding.ZERO.value, "parameters are gathered once, gradients reduce-scattered"
    ratio = gathered / scattered
    told = f"{ratio:.2g} elements are gathered for each that is reduce-scattered"
    often = ratio >= GATHERED_TWICE
    return (Sharding.FSDP if often else Sharding.ZERO).value, told


def _scattered_by_all_reduce(group: GroupTraffic) -> tuple[str, str] | None:
    """Gloo carries a reduce-scatter out as an all-reduce, and its transfers are named so."""
    if group.elements("all_gather") < group.elements("all_reduce"):
        return None
    if not _used(group, "all_reduce", Phase.BACKWARD):
        return None
    why = "parameters are gathered in both passes, gradients reduced in full, as gloo does"
    return Sharding.FSDP.value, why


def _replicated(group: GroupTraffic, *, ddp: bool) -> tuple[str, str]:
    if not group.elements("all_reduce"):
        operations = ", ".join(sorted({e.collective for e in group.exchanges}))
        return "", f"{operations} alone decide nothing, or their element types are not recorded"
    if _used(group, "all_reduce", Phase.FORWARD):
        return "", "it all-reduces in the forward pass only"
    if ddp:
        return Sharding.DDP.value, "DistributedDataParallel wraps the model"
    if _used(group, "all_reduce", Phase.BACKWARD):
        return Sharding.DDP.value, "it all-reduces in the backward pass, never in the forward pass"
    if not group.phases_known:
        return "", "the capture does not tie its transfers to calls, so not to passes"
    return "", "it all-reduces after the backward pass only"

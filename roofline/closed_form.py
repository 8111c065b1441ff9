"""How much work a rank needs so that computing outlasts the network, now and with more ranks.

Closed forms of models.md 2.1: data parallelism sends passes (n-1)/n N b per step whatever the
batch, so tokens (for a dense transformer, 6 N FLOP each) or just more of the same work hide it;
tensor parallelism sends in proportion to the batch, so only a larger hidden size does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfkit.roofline.ceilings import Roofs
from perfkit.roofline.configuration import Configuration, growth, level_share
from perfkit.roofline.network import (
    FLOP_PER_PARAMETER_AND_TOKEN,
    tensor_parallel_critical_hidden,
)
from perfkit.roofline.parallel import Parallelism
from perfkit.roofline.step import INTER, INTRA, StepRoofline

TOKENS, WORK, HIDDEN = "tokens per rank and step", "work per rank and step", "hidden size"
MOST_RANKS, MOST_WAYS = 4096, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedForm:
    """One group on one level of the network: where it sits, where its ridge is, how it moves.

    critical: the quantity from which computing takes longer than this level; None where the run
    does not use the level yet. limit: with infinitely many ranks; None if it grows without end.
    """

    kind: str  # ddp, zero, fsdp, tensor
    group: str
    level: str
    quantity: str  # tokens per rank and step, work per rank and step (now = 1), hidden size
    ranks: int
    now: float
    ridge_flop_per_byte: float
    critical: float | None
    critical_doubled: float  # with twice the ranks
    limit: float | None
    curve: tuple[tuple[int, float], ...]  # ranks and critical quantity, for plotting
    assumed: str


def closed_forms(
    steps: Sequence[StepRoofline], configuration: Configuration, roofs: Roofs, hidden: float | None
) -> tuple[ClosedForm, ...]:
    """Data and tensor parallelism on every level of the network whose bandwidth is known.

    hidden: the model's hidden size over all ranks of a tensor group. Empty where neither kind of
    parallelism, the peak, nor a network ceiling is known.
    """
    step = next((s for s in steps if s.executed_flop and s.peak_flop_per_s), None)
    if step is None:
        return ()
    found: list[ClosedForm] = []
    for level, nodes in ((INTRA, 1), (INTER, 2)):
        roof = roofs.network("all_reduce", nodes)
        if roof is None or not step.peak_flop_per_s:
            continue
        ridge = step.peak_flop_per_s / roof.value
        if configuration.data is not None:
            found += _data(step, configuration, configuration.data, level, ridge)
        if configuration.tensor is not None and hidden:
            found += _tensor(configuration.tensor, level, ridge, hidden)
    return tuple(found)


def _data(
    step: StepRoofline,
    configuration: Configuration,
    group: Parallelism,
    level: str,
    ridge: float,
) -> Iterable[ClosedForm]:
    share, sent = level_share(group, level), group.bus_bytes
    if share is None or not sent:
        return
    quantity, now, flop_each, assumed = _work(step, configuration, group)
    base = ridge * share * sent / flop_each

    def critical(ranks: int | None) -> float:
        return base * growth(group.ranks, ranks)

    uses = level == INTRA or (group.nodes or 1) > 1
    first = group.ranks if uses else 2 * group.ranks
    yield ClosedForm(
        kind=group.kind,
        group=group.group,
        level=level,
        quantity=quantity,
        ranks=group.ranks,
        now=now,
        ridge_flop_per_byte=ridge,
        critical=base if uses else None,
        critical_doubled=critical(2 * group.ranks),
        limit=critical(None),
        curve=tuple((n, critical(n)) for n in _ladder(first, group.ranks, MOST_RANKS)),
        assumed=assumed,
    )


def _work(
    step: StepRoofline, configuration: Configuration, group: Parallelism
) -> tuple[str, float, float, str]:
    """What is varied, how much of it there is now, FLOP of one unit of it, what was assumed."""
    tokens, parameters = configuration.tokens_per_rank, configuration.parameters
    if tokens and parameters:
        flop_each = FLOP_PER_PARAMETER_AND_TOKEN * parameters
        return TOKENS, tokens, flop_each, "6 FLOP per parameter and token, attention left out"
    return WORK, 1.0, step.executed_flop, "FLOP in proportion to the batch"


def _ladder(first: int, now: int, most: int) -> list[int]:
    """Powers of two from `first` (or 2) on, and the number of ranks now."""
    powers = [2**i for i in range(1, most.bit_length()) if 2**i >= min(first, most)]
    return sorted({*powers, max(first, now)}) if first <= most else [first]


def _tensor(group: Parallelism, level: str, ridge: float, hidden: float) -> Iterable[ClosedForm]:
    across = (group.nodes or 1) > 1
    if group.item_bytes is None or across != (level == INTER):
        return
    size = group.item_bytes

    def critical(ways: int) -> float:
        return tensor_parallel_critical_hidden(ridge, ways, size)

    yield ClosedForm(
        kind=group.kind,
        group=group.group,
        level=level,
        quantity=HIDDEN,
        ranks=group.ranks,
        now=hidden,
        ridge_flop_per_byte=ridge,
        critical=critical(group.ranks),
        critical_doubled=critical(2 * group.ranks),
        limit=None,
        curve=tuple((n, critical(n)) for n in _ladder(2, group.ranks, MOST_WAYS)),
        assumed="72 h^2 FLOP and four all-reduces of h elements per layer and token",
    )

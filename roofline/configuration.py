"""Where a configuration sits against the network's ridge, and how more ranks would move it."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit.roofline.collective_cost import bus_factor
from perfkit.roofline.network import step_flop
from perfkit.roofline.parallel import TENSOR, Parallelism
from perfkit.roofline.step import INTER, StepRoofline


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the run says of itself; None where it does not."""

    parameters: float | None = None  # of the part of the model that one rank computes
    tokens_per_rank: float | None = None  # per optimizer step
    micro_batches: float | None = None  # backward passes per optimizer step
    parallelism: tuple[Parallelism, ...] = ()

    @property
    def six_n_flop(self) -> float | None:
        """6 N t of one rank's step."""
        if self.parameters is None or self.tokens_per_rank is None:
            return None
        return step_flop(self.parameters, self.tokens_per_rank)

    @property
    def data(self) -> Parallelism | None:
        """The group over which data parallelism reduces, the one with most bytes."""
        return next((p for p in self.parallelism if p.sharding is not None), None)

    @property
    def tensor(self) -> Parallelism | None:
        """The tensor-parallel group."""
        return next((p for p in self.parallelism if p.kind == TENSOR), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRidge:
    """One level of the network: the run's FLOP per bus byte against the ridge of its ceilings.

    work_factor: how much more work per rank and step (batch) brings the run to the ridge; below 1
    it is already past it. critical_tokens: the closed form for dense transformers. The factors of
    more ranks are those of data parallelism; None where its group is not known.
    """

    level: str
    intensity: float
    ridge: float | None
    work_factor: float | None
    critical_tokens: float | None
    tokens: float | None
    doubled_ranks_factor: float | None  # of bus bytes per rank, when the number of ranks doubles
    limit_factor: float | None  # with infinitely many ranks


def network_ridges(
    steps: Sequence[StepRoofline], configuration: Configuration
) -> tuple[NetworkRidge, ...]:
    """The levels that the first rank with collectives used."""
    for step in steps:
        found = tuple(
            _ridge(step, index, configuration)
            for index, level in enumerate(step.levels)
            if level.intensity is not None
        )
        if found:
            return found
    return ()


def _ridge(step: StepRoofline, index: int, configuration: Configuration) -> NetworkRidge:
    level = step.levels[index]
    assert level.intensity is not None
    ridge = None
    if step.peak_flop_per_s and level.bandwidth_bytes_per_s:
        ridge = step.peak_flop_per_s / level.bandwidth_bytes_per_s
    data = configuration.data
    return NetworkRidge(
        level=level.name,
        intensity=level.intensity,
        ridge=ridge,
        work_factor=ridge / level.intensity if ridge is not None else None,
        critical_tokens=_critical(configuration, ridge, level.name),
        tokens=configuration.tokens_per_rank,
        doubled_ranks_factor=growth(data.ranks, 2 * data.ranks) if data else None,
        limit_factor=growth(data.ranks, None) if data else None,
    )


def _critical(configuration: Configuration, ridge: float | None, level: str) -> float | None:
    """Tokens per rank and step at this level's ridge, all synchronisations of the step counted."""
    data, parameters = configuration.data, configuration.parameters
    if ridge is None or data is None or not data.bus_bytes:
        return None
    if configuration.tokens_per_rank is None or parameters is None:
        return None
    share = level_share(data, level)
    return None if share is None else ridge * share * data.bus_bytes / step_flop(parameters, 1)


def level_share(group: Parallelism, level: str) -> float | None:
    """Share of a group's bus bytes on a level; None where there are none.

    Between nodes every rank of a node has its own way out. A group inside one node would, on more
    nodes, leave it as one: all its ranks share the bytes that go out.
    """
    nodes = group.nodes or 1
    per_node = max(group.ranks // nodes, 1)
    if level == INTER:
        return 1 / per_node
    if nodes == 1:
        return 1.0
    return 1 - 1 / per_node if per_node > 1 else None


def growth(ranks: int, more: int | None) -> float:
    """Bus bytes per rank with `more` ranks (None: the limit) against now; 1 on a single rank."""
    now = bus_factor("all_gather", ranks)
    if not now:
        return 1.0
    return (bus_factor("all_gather", more) if more else 1.0) / now

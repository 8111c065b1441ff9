"""Where a configuration sits against the network's ridge, and how more ranks would move it."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit.roofline.collective_cost import bus_factor
from perfkit.roofline.network import Sharding, critical_tokens, step_flop
from perfkit.roofline.step import StepRoofline


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the run says of itself; None where it does not."""

    parameters: float | None = None
    sharding: Sharding | None = None
    gradient_item_bytes: float | None = None
    ranks: int = 1  # data-parallel
    tokens_per_rank: float | None = None  # per optimizer step

    @property
    def six_n_flop(self) -> float | None:
        """6 N t of one rank's step."""
        if self.parameters is None or self.tokens_per_rank is None:
            return None
        return step_flop(self.parameters, self.tokens_per_rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRidge:
    """One level of the network: the run's FLOP per bus byte against the ridge of its ceilings.

    work_factor: how much more work per rank and step (batch) brings the run to the ridge; below 1
    it is already past it. critical_tokens: the closed form for dense transformers.
    """

    level: str
    intensity: float
    ridge: float | None
    work_factor: float | None
    critical_tokens: float | None
    tokens: float | None
    doubled_ranks_factor: float  # of bus bytes per rank, when the number of ranks doubles
    limit_factor: float  # with infinitely many ranks


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
    return NetworkRidge(
        level=level.name,
        intensity=level.intensity,
        ridge=ridge,
        work_factor=ridge / level.intensity if ridge is not None else None,
        critical_tokens=_critical(configuration, ridge),
        tokens=configuration.tokens_per_rank,
        doubled_ranks_factor=_growth(configuration.ranks, 2 * configuration.ranks),
        limit_factor=_growth(configuration.ranks, None),
    )


def _critical(configuration: Configuration, ridge: float | None) -> float | None:
    sharding, item_bytes = configuration.sharding, configuration.gradient_item_bytes
    if ridge is None or sharding is None or item_bytes is None or configuration.ranks < 2:
        return None
    if configuration.tokens_per_rank is None:
        return None
    return critical_tokens(sharding, ridge, configuration.ranks, item_bytes)


def _growth(ranks: int, more: int | None) -> float:
    """Bus bytes per rank with `more` ranks (None: the limit) against now; 1 on a single rank."""
    now = bus_factor("all_gather", ranks)
    if not now:
        return 1.0
    return (bus_factor("all_gather", more) if more else 1.0) / now

"""Network roofs in closed form: bytes per step, FLOP per network byte, critical batch per GPU.

N parameters, t tokens per GPU and step, b bytes per element, n ranks; a dense transformer computes
6 N t per GPU and step (models.md 2.1, derived there).
"""

from dataclasses import dataclass
from enum import StrEnum

from perfkit.roofline.collective_cost import bus_factor


class Sharding(StrEnum):
    """How data-parallel ranks share the model."""

    DDP = "ddp"  # gradients all-reduced
    ZERO = "zero"  # ZeRO-1 and ZeRO-2: gradients scattered once, parameters gathered once
    FSDP = "fsdp"  # ZeRO-3: parameters gathered in forward and backward, gradients scattered


_HALF_PASSES = {Sharding.DDP: 2, Sharding.ZERO: 2, Sharding.FSDP: 3}
FLOP_PER_PARAMETER_AND_TOKEN = 6


def step_flop(parameters: float, tokens: float) -> float:
    """6 N t: forward and backward of a dense transformer, attention left out."""
    return FLOP_PER_PARAMETER_AND_TOKEN * parameters * tokens


def volume_bytes(sharding: Sharding, parameters: float, ranks: int, item_bytes: float) -> float:
    """Bus bytes that each rank sends per optimizer step: 2 or 3 times (n-1)/n N b."""
    passes = _HALF_PASSES[sharding]
    return passes * bus_factor("all_gather", ranks) * parameters * item_bytes


def intensity(sharding: Sharding, tokens: float, ranks: int, item_bytes: float) -> float | None:
    """FLOP per network byte; the model's size cancels. None on one rank: nothing is sent."""
    if ranks < 2:
        return None
    sent = volume_bytes(sharding, 1.0, ranks, item_bytes)
    return step_flop(1.0, tokens) / sent


def critical_tokens(
    sharding: Sharding, ridge_flop_per_byte: float, ranks: int, item_bytes: float
) -> float:
    """Tokens per GPU and step from which computing takes longer than the network."""
    sent = volume_bytes(sharding, 1.0, ranks, item_bytes)
    return ridge_flop_per_byte * sent / FLOP_PER_PARAMETER_AND_TOKEN


def tensor_parallel_intensity(hidden: int, ways: int, item_bytes: float) -> float | None:
    """FLOP per network byte of Megatron tensor parallelism: 9 h / ((t-1) b); None for one way.

    Per layer and token 72 h^2 / t FLOP against four all-reduces of h elements.
    """
    if ways < 2:
        return None
    return 9 * hidden / ((ways - 1) * item_bytes)


def tensor_parallel_critical_hidden(
    ridge_flop_per_byte: float, ways: int, item_bytes: float
) -> float:
    """Hidden size from which computing takes longer than tensor parallelism's all-reduces."""
    return ridge_flop_per_byte * (ways - 1) * item_bytes / 9


def pipeline_intensity(
    stage_flop: float,
    *,
    chunks: int,
    tokens: int,
    hidden: int,
    item_bytes: float,
) -> float:
    """FLOP per network byte of an interior pipeline stage and microbatch of that many tokens.

    Each of the stage's chunks sends its activations forward and their gradients back.
    """
    return stage_flop / (2 * chunks * tokens * hidden * item_bytes)


def two_chip_matmul_critical_dimension(ridge_flop_per_byte: float) -> float:
    """Contracted dimension from which a matmul split over two chips is compute-bound.

    Each chip multiplies (B, D/2) by (D/2, F), which is 2 B F D/2 FLOP, and sends a partial result
    of B F bf16 elements, so the intensity is D/2 (jax-ml/scaling-book, roofline chapter).
    """
    return 2 * ridge_flop_per_byte


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelVolume:
    """Bus bytes of one collective per rank, split over the levels of the network."""

    intra_bytes: float
    inter_bytes: float


def split_levels(
    collective: str, size_bytes: float, *, ranks: int, ranks_per_node: int
) -> LevelVolume:
    """Where the bytes of one collective go, per rank.

    A group inside one node uses the node's links only. Across nodes (rail-optimised, every local
    rank its own NIC) each rank's NIC carries factor(n) S / g and the node's links the rest.
    """
    total = bus_factor(collective, ranks) * size_bytes
    if ranks_per_node >= ranks:
        return LevelVolume(intra_bytes=total, inter_bytes=0.0)
    inter = total / ranks_per_node
    return LevelVolume(intra_bytes=total - inter, inter_bytes=inter)

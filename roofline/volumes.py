"""How many bytes a parallel training must move, and how many its model states occupy.

Volumes are bus bytes: what one rank sends per optimizer step, S * k of nccl-tests, so that
volume / link bandwidth bounds the time from below. Parameters are counted per rank's model part.
Sources: ZeRO (Rajbhandari et al. 2020), Megatron-LM (Shoeybi et al. 2019; Korthikanti et al. 2022),
torch.distributed's reducer for the buckets. Overlap and latency are not in these numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit.roofline.collective_cost import bus_factor

MEBIBYTE = 1024 * 1024
DDP_BUCKET_BYTES = 25 * MEBIBYTE
DDP_FIRST_BUCKET_BYTES = 1 * MEBIBYTE


def data_parallel_bytes(parameter_bytes: float, ranks: int, *, synchronisations: int = 1) -> float:
    """Return DDP's volume: one all-reduce of the gradients per synchronised backward pass.

    `synchronisations` is 1 with no_sync under accumulation, else the number of micro-batches.
    """
    return synchronisations * bus_factor("all_reduce", ranks) * parameter_bytes


def zero_bytes(stage: int, parameter_bytes: float, ranks: int, *, micro_batches: int = 1) -> float:
    """Return the volume of ZeRO stage 1, 2 or 3 (fp16/bf16 gradients and parameters alike).

    Stage 1 reduces once and gathers once, like DDP. Stage 2 reduce-scatters every micro-batch.
    Stage 3 gathers in forward and backward and reduce-scatters, every micro-batch.
    """
    share = bus_factor("all_gather", ranks) * parameter_bytes
    if stage == 1:
        return 2 * share
    if stage == 2:
        return (micro_batches + 1) * share
    if stage == 3:
        return 3 * micro_batches * share
    raise ValueError(f"ZeRO has stages 1, 2 and 3, not {stage}")


def fully_sharded_bytes(
    parameter_bytes: float,
    ranks: int,
    *,
    micro_batches: int = 1,
    reshard_after_forward: bool = True,
) -> float:
    """Return FSDP's volume; without resharding after forward the second gather falls away."""
    share = bus_factor("all_gather", ranks) * parameter_bytes
    return (3 if reshard_after_forward else 2) * micro_batches * share


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridVolume:
    """HSDP's two volumes, which travel over different links."""

    shard_group_bytes: float
    replica_group_bytes: float


def hybrid_sharded_bytes(
    parameter_bytes: float, shard_ranks: int, replicas: int, *, micro_batches: int = 1
) -> HybridVolume:
    """Return FSDP within the shard group, and an all-reduce of a shard across the replicas."""
    across = bus_factor("all_reduce", replicas) * parameter_bytes / shard_ranks
    inside = fully_sharded_bytes(parameter_bytes, shard_ranks, micro_batches=micro_batches)
    return HybridVolume(shard_group_bytes=inside, replica_group_bytes=across * micro_batches)


def tensor_parallel_bytes(
    activation_bytes: float, ranks: int, *, layers: int, micro_batches: int = 1
) -> float:
    """Return Megatron's volume: four all-reduces a layer of batch * sequence * hidden * bytes.

    Sequence parallelism replaces each by a reduce-scatter and an all-gather: the same volume.
    """
    return 4 * layers * micro_batches * bus_factor("all_reduce", ranks) * activation_bytes


def pipeline_bytes(activation_bytes: float, *, micro_batches: int, chunks: int = 1) -> float:
    """Return what an interior stage sends: activations forward and their gradients backward."""
    return 2 * chunks * micro_batches * activation_bytes


def expert_parallel_bytes(
    token_bytes: float, ranks: int, *, top_k: int, layers: int, micro_batches: int = 1
) -> float:
    """Return the volume of four all-to-alls a layer (dispatch and combine, both directions).

    `token_bytes` is tokens * hidden * bytes of one rank; balanced routing is assumed.
    """
    exchange = bus_factor("all_to_all", ranks) * token_bytes * top_k
    return 4 * layers * micro_batches * exchange


def ring_attention_bytes(
    key_value_bytes: float, ranks: int, *, layers: int, micro_batches: int = 1
) -> float:
    """Return context parallelism's volume: K and V blocks over n-1 hops, twice that backward.

    `key_value_bytes` is one rank's block of K and V together.
    """
    return 3 * layers * micro_batches * (ranks - 1) * key_value_bytes


def model_state_bytes(parameters: float, ranks: int, *, stage: int) -> float:
    """Return a rank's model states under mixed-precision Adam: 16 bytes a parameter, sharded.

    Stage 0 is DDP; 1 shards the optimizer's 12 bytes, 2 the gradients' 2 as well, 3 everything.
    Activations, buckets and fragmentation come on top.
    """
    split = {0: (16.0, 0.0), 1: (4.0, 12.0), 2: (2.0, 14.0), 3: (0.0, 16.0)}
    if stage not in split:
        raise ValueError(f"ZeRO has stages 0 to 3, not {stage}")
    kept, sharded = split[stage]
    return parameters * (kept + sharded / ranks)


def ddp_buckets(
    gradient_bytes: Sequence[int],
    *,
    bucket_bytes: int = DDP_BUCKET_BYTES,
    first_bucket_bytes: int = DDP_FIRST_BUCKET_BYTES,
) -> tuple[tuple[int, ...], ...]:
    """Return the indices of each bucket, in the order in which gradients become ready.

    `gradient_bytes` is in that order (the reverse of the parameters'). A bucket closes once it has
    reached its cap, so it may exceed it by its last gradient (torch's
    compute_bucket_assignment_by_size). One dtype and device are assumed.
    """
    buckets: list[tuple[int, ...]] = []
    current: list[int] = []
    filled, cap = 0, first_bucket_bytes
    for index, size in enumerate(gradient_bytes):
        current.append(index)
        filled += size
        if filled >= cap:
            buckets.append(tuple(current))
            current, filled, cap = [], 0, bucket_bytes
    if current:
        buckets.append(tuple(current))
    return tuple(buckets)

"""Bytes moved and held by each kind of parallelism."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.roofline import volumes

MODEL = 7e9 * 2


@pytest.mark.parametrize(("ranks", "once", "sharded"), [(8, 2.45e10, 3.675e10),
                                                       (64, 2.75625e10, 4.134375e10)])  # fmt: skip
def test_golden_volumes(ranks: int, once: float, sharded: float) -> None:
    assert volumes.data_parallel_bytes(MODEL, ranks) == pytest.approx(once)
    assert volumes.zero_bytes(1, MODEL, ranks) == pytest.approx(once)
    assert volumes.zero_bytes(2, MODEL, ranks) == pytest.approx(once)
    assert volumes.zero_bytes(3, MODEL, ranks) == pytest.approx(sharded)
    assert volumes.fully_sharded_bytes(MODEL, ranks) == pytest.approx(sharded)


def test_zero_memory_is_figure_1_of_the_paper() -> None:
    gigabytes = [volumes.model_state_bytes(7.5e9, 64, stage=s) / 1e9 for s in range(4)]
    assert gigabytes == pytest.approx([120, 31.40625, 16.640625, 1.875])


@given(st.integers(1, 1024), st.floats(1, 1e12), st.integers(1, 16))
def test_stages_cost_no_less_the_more_they_shard(
    ranks: int, size: float, micro_batches: int
) -> None:
    moved = [volumes.zero_bytes(s, size, ranks, micro_batches=micro_batches) for s in (1, 2, 3)]
    assert moved == sorted(moved)
    held = [volumes.model_state_bytes(size, ranks, stage=s) for s in range(4)]
    assert held == sorted(held, reverse=True)


def test_hybrid_sharding_reduces_to_its_ends() -> None:
    one_replica = volumes.hybrid_sharded_bytes(MODEL, 8, 1)
    assert one_replica.replica_group_bytes == 0
    assert one_replica.shard_group_bytes == pytest.approx(volumes.zero_bytes(3, MODEL, 8))
    unsharded = volumes.hybrid_sharded_bytes(MODEL, 1, 8)
    assert unsharded.replica_group_bytes == pytest.approx(volumes.data_parallel_bytes(MODEL, 8))


def test_activations_on_the_wire() -> None:
    block = 1 * 2048 * 4096 * 2
    assert volumes.tensor_parallel_bytes(block, 8, layers=1) == pytest.approx(8 * 7 / 8 * block)
    assert volumes.pipeline_bytes(block, micro_batches=4) == 8 * block
    assert volumes.pipeline_bytes(block, micro_batches=4, chunks=2) == 16 * block
    assert volumes.expert_parallel_bytes(block, 8, top_k=2, layers=1) == pytest.approx(7 * block)
    assert volumes.ring_attention_bytes(block, 4, layers=2) == 18 * block
    unsharded = volumes.fully_sharded_bytes(MODEL, 8, reshard_after_forward=False)
    assert unsharded == pytest.approx(2 / 3 * volumes.fully_sharded_bytes(MODEL, 8))


SIZES = st.lists(st.integers(4, 40_000_000), min_size=1, max_size=60)


@given(SIZES)
def test_buckets_keep_order_and_lose_nothing(sizes: list[int]) -> None:
    buckets = volumes.ddp_buckets(sizes)
    assert [i for bucket in buckets for i in bucket] == list(range(len(sizes)))
    caps = [volumes.DDP_FIRST_BUCKET_BYTES] + [volumes.DDP_BUCKET_BYTES] * len(buckets)
    for bucket, cap in zip(buckets[:-1], caps, strict=False):
        assert sum(sizes[i] for i in bucket) >= cap > sum(sizes[i] for i in bucket[:-1])


def test_buckets_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    distributed = pytest.importorskip("torch.distributed")
    sizes = [300_000, 1_100_000, 40_000, 26_000_000, 3, 9_000_000, 20_000_000, 64]
    tensors = [torch.empty(size, dtype=torch.uint8) for size in sizes]
    caps = [volumes.DDP_FIRST_BUCKET_BYTES, volumes.DDP_BUCKET_BYTES]
    theirs, _ = distributed._compute_bucket_assignment_by_size(tensors, caps)
    assert sorted(map(tuple, theirs)) == sorted(volumes.ddp_buckets(sizes))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="stages 1, 2 and 3"):
        volumes.zero_bytes(4, 1, 8)
    with pytest.raises(ValueError, match="stages 0 to 3"):
        volumes.model_state_bytes(1, 8, stage=4)

"""The stream of batches of one rank: shuffled, epoch after epoch, from any step on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from common.ranks import Rank

Sample = tuple[Tensor, Tensor]


class ResumableSampler(DistributedSampler[Any]):
    """A DistributedSampler that can skip the samples which an epoch has already seen."""

    skip = 0

    def __iter__(self) -> Iterator[int]:
        """Yield the rest of the epoch; skipped samples are never loaded."""
        indices = list(super().__iter__())
        return iter(indices[self.skip :])


def batches(
    dataset: Dataset[Sample],
    worker: Rank,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    first_step: int,
) -> Iterator[list[Tensor]]:
    """Yield this rank's batches without end, beginning with the one of `first_step`."""
    sampler = ResumableSampler(
        dataset, worker.world_size, worker.rank, shuffle=True, seed=seed, drop_last=True
    )
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=worker.device.type == "cuda",
        drop_last=True,
        # Its own generator: a new epoch must not draw from the one that dropout uses, or a
        # resumed run, which starts its first epoch half-way, would see other dropout masks.
        generator=torch.Generator().manual_seed(seed),
    )
    steps_per_epoch = sampler.num_samples // batch_size
    if steps_per_epoch == 0:
        raise SystemExit(f"a batch of {batch_size} is larger than this rank's share of the data")
    epoch, done = divmod(first_step, steps_per_epoch)
    while True:
        sampler.set_epoch(epoch)
        sampler.skip = done * batch_size
        yield from loader
        epoch, done = epoch + 1, 0

"""One process of a training job: which rank it is, and where it computes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Rank:
    """One process among its peers."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Only this rank prints and writes checkpoints."""
        return self.rank == 0


@contextmanager
def joined() -> Iterator[Rank]:
    """Join the job that torchrun (or mp.spawn) describes in the environment; leave it at the end.

    Without that description the process trains alone, as one rank of one.
    """
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "0")  # one rank: any free port will do
    rank = int(os.environ.setdefault("RANK", "0"))
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))
    world_size = int(os.environ.setdefault("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Rank(rank, local_rank, world_size, device)
    finally:
        dist.destroy_process_group()
        # gloo's threads still let go of the last collective. One that does so while the interpreter
        # ends aborts the process (torch 2.13: 3 of 20 runs), so give them a moment.
        time.sleep(0.05)


def data_parallel(model: Module, worker: Rank) -> DistributedDataParallel:
    """Put the model on this rank's device and keep its gradients equal on all ranks."""
    device_ids = [worker.local_rank] if worker.device.type == "cuda" else None
    return DistributedDataParallel(model.to(worker.device), device_ids=device_ids)

"""Rank of a job: train three two-layer blocks, fully sharded or tensor parallel, on CPU.

Started by torchrun with one argument, fsdp or tensor.
"""

import sys
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

WIDTH, BLOCKS, ROWS = 256, 3, 16


class Block(nn.Module):
    """Widen, clip, narrow, on a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, width) to the same shape."""
        narrowed: Tensor = self.down(torch.relu(self.up(x)))
        return x + narrowed


def main() -> None:
    """Train twelve steps."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    blocks = [Block() for _ in range(BLOCKS)]
    model = nn.Sequential(*blocks)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in blocks:
        if sys.argv[1] == "fsdp":
            fully_shard(block, mesh=mesh)
        else:
            plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
            parallelize_module(block, mesh, plan)
    if sys.argv[1] == "fsdp":
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for _ in range(12):
        model(torch.randn(ROWS, WIDTH)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end before the interpreter does


if __name__ == "__main__":
    main()

"""A pipeline-parallel training on sleeping layers: what it waits for is its schedule alone.

It knows nothing of perfkit. Every rank is one stage; a micro-batch takes its share of the batch's
time, a third of it forwards, as on a device.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.truth.workload import Accelerator

SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


class Stage(nn.Module):
    """A small layer and the simulated device: `seconds_a_row` for each row of the micro-batch."""

    def __init__(self, width: int, seconds_a_row: float) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.seconds_a_row = seconds_a_row

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, width) to the same shape."""
        x = torch.tanh(self.layer(x))
        done: Tensor = Accelerator.apply(x, self.seconds_a_row * x.shape[0])  # type: ignore[no-untyped-call]
        return done


def train(options: argparse.Namespace) -> None:
    """Train; nothing is printed."""
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    torch.manual_seed(rank)
    part = Stage(options.width, options.accelerator_ms / 1e3 / options.batch_size)
    stage = PipelineStage(part, rank, last + 1, torch.device("cpu"))
    schedule = SCHEDULES[options.schedule](
        stage, n_microbatches=options.micro_batches, loss_fn=nn.functional.mse_loss
    )
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    for step in range(options.steps):
        torch.manual_seed(step)
        if rank == 0:
            schedule.step(torch.randn(options.batch_size, options.width))
        elif rank == last:
            schedule.step(target=torch.randn(options.batch_size, options.width), losses=[])
        else:
            schedule.step()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Run one rank; torchrun says which."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedule", choices=tuple(SCHEDULES), default="gpipe")
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--accelerator-ms", type=float, default=96, help="a batch on one stage")
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train(options)
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads come to rest, or now and then one aborts the process


if __name__ == "__main__":
    main()

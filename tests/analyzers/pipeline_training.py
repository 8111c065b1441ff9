"""A small pipeline-parallel training on the CPU: python pipeline_training.py {gpipe,1f1b}."""

import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
WIDTH, ROWS, MICRO_BATCHES, STEPS = 256, 128, 4, 24


def main() -> None:
    """Train one stage a rank."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(4)))
    stage = PipelineStage(model, rank, world, torch.device("cpu"))
    loss = nn.MSELoss()
    schedule = SCHEDULES[sys.argv[1]](stage, n_microbatches=MICRO_BATCHES, loss_fn=loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        inputs, wanted = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
        optimizer.zero_grad()
        if rank == 0:
            schedule.step(inputs)
        elif rank == world - 1:
            schedule.step(target=wanted)
        else:
            schedule.step()
        optimizer.step()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

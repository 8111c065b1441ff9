"""A small training of two ranks, parallel in the ways that are asked for, one after the other."""

import argparse
import gc
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

WIDTH, BATCH = 64, 16


def ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def fsdp2(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def tensor(model: nn.Module) -> nn.Module:
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tensor",))
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def train_whole(how: str, steps: int) -> None:
    wrap = {"ddp": ddp, "fsdp2": fsdp2, "tensor": tensor}[how]
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, WIDTH)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        model(torch.randn(BATCH, WIDTH)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def train_pipeline(how: str, steps: int) -> None:
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

    rank = dist.get_rank()
    kind = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}[how]
    torch.manual_seed(rank)
    part = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
    stage = PipelineStage(part, rank, 2, torch.device("cpu"))
    schedule = kind(stage, n_microbatches=4, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        if rank == 0:
            schedule.step(torch.randn(BATCH, WIDTH))
        else:
            schedule.step(target=torch.randn(BATCH, WIDTH), losses=[])
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ways", nargs="+", choices=("ddp", "fsdp2", "tensor", "gpipe", "1f1b"))
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    dist.init_process_group("gloo")
    for how in options.ways:
        train = train_pipeline if how in ("gpipe", "1f1b") else train_whole
        train(how, options.steps)
        gc.collect()  # its optimizer is gone before the next one steps
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()
    sys.stdout.flush()

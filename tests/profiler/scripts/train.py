"""A small training of one rank, with a switch for every way in which a run can go and end."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import perfkit


class Samples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Seeded noise."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        source = torch.Generator().manual_seed(index)
        return torch.randn(32, generator=source), torch.randint(0, 4, (), generator=source)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--end", default="", help="how rank 1 ends at step --at")
    parser.add_argument("--at", type=int, default=5)
    parser.add_argument("--hangs", type=Path, help="where each rank leaves a file as it hangs")
    parser.add_argument(
        "--profile", type=int, default=-1, help="step of the program's own profiler"
    )
    parser.add_argument("--profile-until", type=int, default=-1, help="last step of it")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of sleep in every step")
    return parser.parse_args()


def end_as_told(how: str, marks: Path | None) -> None:
    if how == "raise":
        raise ValueError("as told")
    if how == "exit3":
        sys.exit(3)
    if how == "os._exit":
        os._exit(4)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        if marks is not None:
            (marks / "asleep").touch()
        time.sleep(600)


def say_that_backward_began(loss: torch.Tensor, marks: Path | None) -> None:
    if marks is not None:
        loss.register_hook(lambda _: (marks / "in backward").touch())


def train(options: argparse.Namespace) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 4)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = Samples()
    sampler: DistributedSampler[Any] = DistributedSampler(
        data, num_replicas=world, rank=rank, seed=1
    )
    loader = DataLoader(data, batch_size=8, sampler=sampler, num_workers=options.workers)
    own = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    batches = endless(loader)
    for step in range(options.steps):
        if step == options.at and options.end == "kill":
            dist.barrier()  # the others have ended the step before it: none loses its messages
        if step == options.at and rank == world - 1:
            end_as_told(options.end, options.hangs)
        if step == options.profile:
            own.start()
        inputs, labels = next(batches)
        time.sleep(options.pause)
        with perfkit.region("loss"):
            loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        if step == options.at:
            say_that_backward_began(loss, options.hangs)
        loss.backward()
        optimizer.step()
        if options.profile >= 0 and step == max(options.profile, options.profile_until):
            own.stop()
            print(rank, "own events", len(own.events()) > 0)
        if rank == 0:
            print(step, float(loss).hex())
        if options.checkpoint and rank == 0 and step == 3:
            torch.save(model.state_dict(), options.checkpoint)
        if step == 4:
            evaluate(model, inputs)


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    while True:
        yield from loader


def evaluate(model: nn.Module, inputs: torch.Tensor) -> None:
    model.eval()
    with torch.no_grad():
        model(inputs)
    model.train()


def main() -> None:
    options = arguments()
    dist.init_process_group("gloo")
    train(options)
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

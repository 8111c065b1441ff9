"""A data-parallel training with two bottlenecks: a slow loader, and gradients sent after backward.

It is written as people write it: a loader without workers, and a loop of all_reduce over all
parameters. Compute is asleep, so that it does not contend for the processors. Flags take the
bottlenecks away, or put others in their place: DDP with its default buckets, accumulation.
"""

import argparse
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class Device(Function):
    """A device's work: takes its time, forward and twice as long backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, seconds: float) -> Tensor:
        """Pass x on."""
        ctx.seconds = seconds  # type: ignore[attr-defined]
        time.sleep(seconds)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        time.sleep(2 * ctx.seconds)
        return gradients[0], None


class Block(nn.Module):
    """A square layer of 1 MiB (width 512) and its time on the device."""

    def __init__(self, width: int, seconds: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width) to the same."""
        return Device.apply(torch.tanh(self.linear(x)), self.seconds)  # type: ignore[no-any-return, no-untyped-call]


class Pictures(Dataset[Tensor]):
    """Samples that take their time to decode; the same sample is the same each time."""

    def __init__(self, count: int, width: int, seconds: float) -> None:
        self.count, self.width, self.seconds = count, width, seconds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        """Return a sample of shape (width,)."""
        time.sleep(self.seconds)
        return torch.randn(self.width, generator=torch.Generator().manual_seed(index))


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--device-ms", type=float, default=20, help="forward, all layers")
    parser.add_argument("--decode-ms", type=float, default=30, help="of a sample")
    parser.add_argument("--ddp", action="store_true", help="instead of the loop of all_reduce")
    parser.add_argument("--accumulate", type=int, default=1, help="backward passes of a step")
    args = parser.parse_args()
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    seconds = args.device_ms / 1e3 / args.layers
    layers = nn.Sequential(*(Block(args.width, seconds) for _ in range(args.layers)))
    model = DistributedDataParallel(layers) if args.ddp else layers
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    count = args.steps * args.batch_size * args.accumulate * dist.get_world_size()
    data = Pictures(count, args.width, args.decode_ms / 1e3)
    sampler: DistributedSampler[Tensor] = DistributedSampler(data, shuffle=True)
    for number, batch in enumerate(DataLoader(data, args.batch_size, sampler=sampler), 1):
        loss = (model(batch) - 1).square().mean() / args.accumulate
        loss.backward()
        if number % args.accumulate:
            continue
        if not args.ddp:
            for parameter in model.parameters():
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()
        optimizer.step()
        optimizer.zero_grad()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads come to rest


if __name__ == "__main__":
    main()

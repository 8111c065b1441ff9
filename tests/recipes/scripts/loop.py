"""One training of one or two ranks, with a switch for every pattern that recipes look for.

Prints each step's loss, to the bit, on the first rank.
"""

import argparse
import contextlib
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, IterableDataset


class Samples(Dataset[Any]):
    """Seeded noise; `draws` takes part of it from the global generator."""

    def __init__(self, draws: bool, lock: bool) -> None:
        self.draws = draws
        if lock:
            import threading

            self.lock = threading.Lock()

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        source = torch.Generator().manual_seed(index)
        noise = torch.randn(16) if self.draws else torch.zeros(16)
        return torch.randn(16, generator=source) + noise, torch.randn(4, generator=source)


class Stream(IterableDataset[Any]):
    """The same samples, one after the other."""

    def __iter__(self) -> Any:
        return (Samples(draws=False, lock=False)[index] for index in range(64))


def doubled(outputs: torch.Tensor) -> torch.Tensor:
    """Through an autograd function that knows nothing of autocast."""

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            return grads[0] * 2

    apply: Any = Scaled.apply
    result: torch.Tensor = apply(outputs)
    return result


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--accumulate", type=int, nargs="*", default=[1])
    parser.add_argument("--sync", default="ddp", help="ddp, manual or none")
    parser.add_argument("--optimizer", default="AdamW")
    parser.add_argument("--conv", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--own", nargs="*", default=[], help="what the script chooses itself")
    return parser.parse_args()


def build(options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    if options.conv:
        head: list[nn.Module] = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 8, 3, padding=1)]
        flat: nn.Module = nn.Flatten()
        return nn.Sequential(*head, nn.ReLU(), flat, nn.Linear(128, 4))
    return nn.Sequential(nn.Linear(16, 256), nn.Tanh(), nn.Dropout(0.1), nn.Linear(256, 4))


def wrapped(model: nn.Module, own: list[str]) -> DistributedDataParallel:
    more: dict[str, Any] = {}
    if "bucket" in own:
        more["bucket_cap_mb"] = 1
    if "unused" in own:
        more["find_unused_parameters"] = True
    ddp = DistributedDataParallel(model, **more)
    if "hook" in own:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        ddp.register_comm_hook(None, default_hooks.allreduce_hook)
    return ddp


def exchange(model: nn.Module, own: list[str], step: int) -> None:
    """Average each gradient by hand."""
    for p in model.parameters():
        assert p.grad is not None
        if "scale-first" in own or ("late-scale" in own and step >= 5):
            p.grad.mul_(2)
    for p in model.parameters():
        assert p.grad is not None
        dist.all_reduce(p.grad)
        p.grad /= dist.get_world_size()


def update(model: nn.Module, optimizer: Any, scaler: Any, own: list[str]) -> None:
    if scaler and "clip" in own:
        scaler.unscale_(optimizer)
    if "clip" in own:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


def train(options: argparse.Namespace) -> None:
    own = options.own
    model = build(options)
    net = wrapped(model, own) if options.sync == "ddp" else model
    kind = getattr(torch.optim, options.optimizer)
    fused: dict[str, Any] = {"foreach": True} if "foreach" in own else {}
    optimizer = kind(model.parameters(), lr=1e-2, **fused)
    if "precision" in own:
        torch.set_float32_matmul_precision("high")
    loader: DataLoader[Any] = DataLoader(
        Stream() if "iterable" in own else Samples("draws" in own, "lock" in own),
        batch_size=4,
        num_workers=options.workers,
        shuffle="iterable" not in own,
    )
    torch.manual_seed(1 + (dist.get_rank() if dist.is_initialized() else 0))
    batches = endless(loader)
    scaler = torch.amp.GradScaler("cpu") if "scaler" in own else None
    for step in range(options.steps):
        passes = options.accumulate[step % len(options.accumulate)]
        total = 0.0
        for i in range(passes):
            inputs, targets = next(batches)
            quiet = "no_sync" in own and i < passes - 1
            assert not quiet or isinstance(net, DistributedDataParallel)
            with net.no_sync() if quiet else contextlib.nullcontext():  # type: ignore[operator]
                dtype = torch.float16 if "fp16" in own else torch.bfloat16
                with torch.autocast("cpu", dtype=dtype, enabled="autocast" in own):
                    outputs = net(inputs)
                if "function" in own:
                    outputs = doubled(outputs)
                loss = nn.functional.mse_loss(outputs.float(), targets)
                loss = loss * 1e4 if "large" in own else loss
                total += float(loss)
                (scaler.scale(loss) if scaler else loss).backward()
        if options.sync == "manual":
            exchange(model, own, step)
        update(model, optimizer, scaler, own)
        if "save" in own and step == 2:
            keeper = optimizer  # under a name by which no recipe knows it
            keeper.state_dict()
        optimizer.zero_grad()
        if not dist.is_initialized() or dist.get_rank() == 0:
            print(step, total.hex(), flush=True)


def endless(loader: Any) -> Any:
    while True:
        yield from loader


def main() -> None:
    options = arguments()
    if options.sync != "none":
        dist.init_process_group("gloo")
    train(options)
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(0.05)


if __name__ == "__main__":
    main()

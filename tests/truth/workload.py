"""A data-parallel training whose bottleneck is known, because it is put in by a flag.

It knows nothing of perfkit. Every rank writes its own log, `rank0.jsonl`, ..., of what each part of
a step took by its own clock; tests compare it with what perfkit reports. A step is counted as
perfkit counts: from the return of one optimizer step to the return of the next.
"""

import argparse
import gc
import io
import json
import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar, TextIO

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.data import DataLoader, Dataset, DistributedSampler


def parse() -> argparse.Namespace:
    """Read the flags; every fault is off by default and holds for `--fault-ranks` only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="folder of the ranks' own logs")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--width", type=int, default=128, help="features; width^2 weights a layer")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="uses of each layer: compute")
    parser.add_argument("--accelerator-ms", type=float, default=0, help="simulated compute a step")
    parser.add_argument("--bucket-mb", type=float, default=25)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--fault-ranks", type=int, nargs="*", help="default: all ranks")
    parser.add_argument("--loader-ms", type=float, default=0, help="per batch")
    parser.add_argument("--loader-how", choices=("sleep", "decode", "read"), default="sleep")
    parser.add_argument("--host-ms", type=float, default=0, help="sleep between batch and forward")
    parser.add_argument("--gc-ms", type=float, default=0, help="collections before forward")
    parser.add_argument("--slow-accelerator-ms", type=float, default=0, help="more on these ranks")
    parser.add_argument("--slow-repeats", type=int, default=0, help="extra uses of each layer")
    parser.add_argument("--checkpoint-every", type=int, default=0)
    parser.add_argument("--checkpoint-ms", type=float, default=0, help="the disk is that slow")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches a step")
    parser.add_argument("--recompute", choices=("needed", "all"), help="gradient checkpointing")
    parser.add_argument("--half-gradients", action="store_true", help="fp16 on the network")
    parser.add_argument("--no-sync", action="store_true", help="send no gradients at all")
    parser.add_argument("--kill-at-step", type=int, default=-1, help="SIGKILL before its backward")
    return parser.parse_args()


class Batches(Dataset[Tensor]):
    """Random samples, loaded a batch at a time, as slowly as told and in the way told."""

    def __init__(self, args: argparse.Namespace, *, slow: bool) -> None:
        self.width = args.width
        self.batches: int = args.steps * args.accumulate
        self.seconds = args.loader_ms / 1e3 if slow else 0.0
        self.how = args.loader_how
        self.packed = zlib.compress(os.urandom(1 << 17) * 2) if self.how == "decode" else b""
        self.file = Path(__file__) if self.how == "read" else None
        self.batch_size: int = args.batch_size

    def __len__(self) -> int:
        ranks = int(os.environ["WORLD_SIZE"])
        return ranks * self.batches * self.batch_size

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """Load the samples of one batch, each of shape (width,)."""
        deadline = time.perf_counter() + self.seconds
        generator = torch.Generator().manual_seed(indices[0])
        samples = torch.randn(len(indices), self.width, generator=generator)
        if self.seconds:
            self._take_until(deadline)
        return list(samples)

    def _take_until(self, deadline: float) -> None:
        """Use up the time: asleep, unpacking, or reading a file from a disk that stalls."""
        if self.how == "decode":
            while time.perf_counter() < deadline:
                zlib.decompress(self.packed)
        elif self.file is not None:
            with self.file.open("rb") as stream:
                chunks = 10
                for left in range(chunks, 0, -1):
                    stream.read(512)
                    time.sleep(max(0.0, (deadline - time.perf_counter()) / left))
        else:
            time.sleep(max(0.0, deadline - time.perf_counter()))


class Accelerator(Function):
    """Stands for work on a device: takes its time without using the processor.

    A sleep ends late, by more than it is long where it is short: `taken` holds what it really took.
    """

    taken: ClassVar[dict[str, int]] = {}

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, seconds: float) -> Tensor:
        """Pass x on after a third of the time; the backward pass takes the rest."""
        ctx.seconds = seconds  # type: ignore[attr-defined]
        Accelerator.work("forward_device_ns", seconds / 3)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on after two thirds of the time."""
        Accelerator.work("backward_device_ns", ctx.seconds * 2 / 3)
        return gradients[0], None

    @staticmethod
    def work(part: str, seconds: float) -> None:
        """Sleep, and add up how long that was."""
        begun = time.perf_counter_ns()
        time.sleep(seconds)
        Accelerator.taken[part] = Accelerator.taken.get(part, 0) + time.perf_counter_ns() - begun


class Layers(nn.Module):
    """Square linear layers, each used several times: gradient bytes and compute as told."""

    def __init__(self, args: argparse.Namespace, *, slow: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(args.width, args.width, bias=False) for _ in range(args.layers)
        )
        self.repeats = args.repeats + (args.slow_repeats if slow else 0)
        whole_ms = args.accelerator_ms + (args.slow_accelerator_ms if slow else 0.0)
        self.seconds = whole_ms / 1e3 / args.layers
        self.recompute = args.recompute

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width) to a scalar."""
        for layer in self.layers:
            if self.recompute:  # torch leaves out what no gradient needs, unless told otherwise
                with set_checkpoint_early_stop(self.recompute == "needed"):
                    x = checkpoint(self.block, layer, x, use_reentrant=False)
            else:
                x = self.block(layer, x)
        return x.square().mean()

    def block(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Use one layer as often as told, then the simulated device."""
        for _ in range(self.repeats):
            x = torch.tanh(layer(x))
        if self.seconds:
            x = Accelerator.apply(x, self.seconds)  # type: ignore[no-untyped-call]
        return x


class SlowDisk(io.BytesIO):
    """A file whose closing write takes a given time, as on a disk that flushes slowly."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.deadline = time.perf_counter() + seconds

    def write(self, data: Any) -> int:
        """Write, and on the first large write wait until the deadline."""
        written: int = super().write(data)
        time.sleep(max(0.0, self.deadline - time.perf_counter()))
        return written


class Garbage:
    """Cyclic objects in such a number that collecting them takes about a millisecond.

    What torch has allocated is left out, or a single collection would take a tenth of a second.
    """

    def __init__(self) -> None:
        gc.freeze()
        self.kept: list[dict[str, object]] = [{} for _ in range(20_000)]
        for own in self.kept:
            own["self"] = own

    def collect_until(self, deadline: float) -> None:
        """Let the collector look through all of them again and again."""
        while time.perf_counter() < deadline:
            gc.collect()


def delayed_ns() -> int:
    """Return how long this thread was ready to run while others had the processor, so far."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


class Stopwatch:
    """Collects what the parts of a step took and writes one line a step, at once."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.step_start = time.perf_counter_ns()
        self.parts: dict[str, int] = {}
        self.last = self.step_start
        self.delayed = delayed_ns()

    def start(self) -> None:
        """Begin a part."""
        self.last = time.perf_counter_ns()

    def stop(self, part: str) -> None:
        """Add the time since `start` to a part."""
        self.parts[part] = self.parts.get(part, 0) + time.perf_counter_ns() - self.last

    def end_step(self, step: int) -> None:
        """Write the step's line."""
        now = time.perf_counter_ns()
        delayed = delayed_ns()
        parts = {**self.parts, **Accelerator.taken}
        Accelerator.taken.clear()
        line = {"step": step, "step_ns": now - self.step_start, **parts}
        line["delayed_ns"] = delayed - self.delayed
        self.stream.write(json.dumps(line) + "\n")
        self.stream.flush()
        self.step_start, self.parts, self.delayed = now, {}, delayed


def data_parallel(args: argparse.Namespace, *, slow: bool) -> DistributedDataParallel:
    """Build the model that sends its gradients as told, or not at all."""
    model = DistributedDataParallel(Layers(args, slow=slow), bucket_cap_mb=args.bucket_mb)
    if args.no_sync:
        model.require_backward_grad_sync = False  # what no_sync() does, for all steps
    if args.half_gradients:
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    return model


def train(args: argparse.Namespace, stream: TextIO) -> None:
    """Train; the first rank prints the losses."""
    rank = dist.get_rank()
    slow = args.fault_ranks is None or rank in args.fault_ranks
    torch.manual_seed(0)
    data = Batches(args, slow=slow)
    sampler: DistributedSampler[Tensor] = DistributedSampler(data, shuffle=False)
    loader = DataLoader(data, args.batch_size, sampler=sampler, num_workers=args.workers)
    model = data_parallel(args, slow=slow)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stream_of_batches = iter(loader)
    garbage = Garbage() if args.gc_ms and slow else None
    watch = Stopwatch(stream)
    for step in range(args.steps):
        for _ in range(args.accumulate - 1):
            with model.no_sync():
                model(next(stream_of_batches)).backward()
        watch.start()
        batch = next(stream_of_batches)
        watch.stop("input_ns")
        watch.start()
        if args.host_ms and slow:
            time.sleep(args.host_ms / 1e3)
        if garbage is not None:
            garbage.collect_until(time.perf_counter() + args.gc_ms / 1e3)
        watch.stop("host_ns")
        watch.start()
        loss = model(batch)
        watch.stop("forward_ns")
        if step == args.kill_at_step:
            dist.barrier()  # the others have ended the step before it: none loses its messages
        if step == args.kill_at_step and slow:
            os.kill(os.getpid(), signal.SIGKILL)
        watch.start()
        loss.backward()
        watch.stop("backward_ns")
        optimizer.step()
        watch.end_step(step)
        optimizer.zero_grad()
        if rank == 0:
            print(f"step {step} loss {loss.item():.9g}", flush=True)
        if args.checkpoint_every and slow and (step + 1) % args.checkpoint_every == 0:
            watch.start()
            torch.save(model.module.state_dict(), SlowDisk(args.checkpoint_ms / 1e3))
            watch.stop("checkpoint_ns")


def main() -> None:
    """Run one rank; torchrun says which."""
    args = parse()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    args.truth.mkdir(parents=True, exist_ok=True)
    with (args.truth / f"rank{dist.get_rank()}.jsonl").open("w") as stream:
        train(args, stream)
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads come to rest, or now and then one aborts the process


if __name__ == "__main__":
    main()

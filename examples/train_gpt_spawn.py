"""Train the small GPT without torchrun: the script starts its own ranks.

python examples/train_gpt_spawn.py --ranks 2 --steps 40
"""

import argparse
import os
import socket

import torch
import torch.multiprocessing as mp
from common import checkpoint
from common.batches import batches
from common.flags import parse, training_flags
from common.gpt import GPT, GPTConfig
from common.ranks import Rank, data_parallel, joined
from common.text import ALPHABET, TextWindows, make_text


def main() -> None:
    """Read the flags, start the ranks and wait for them."""
    parser = training_flags("Train a small GPT with torch.multiprocessing.spawn.", batch_size=8)
    parser.add_argument("--ranks", type=int, default=2, help="processes to start")
    parser.add_argument("--width", type=int, default=256, help="features per token")
    args = parse(parser)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(  # type: ignore[attr-defined, no-untyped-call]
        run_rank, args=(args.ranks, port, args), nprocs=args.ranks
    )


def run_rank(rank: int, ranks: int, port: int, args: argparse.Namespace) -> None:
    """Be one rank of the job: what torchrun would set, this sets by hand."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)  # ranks share the cores of one machine
    with joined() as worker:
        train(worker, args)


def train(worker: Rank, args: argparse.Namespace) -> None:
    """Train up to step `args.steps`; the first rank prints the loss."""
    torch.manual_seed(args.seed)  # the same weights on every rank
    config = GPTConfig(len(ALPHABET), width=args.width)
    model = data_parallel(GPT(config), worker)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    torch.manual_seed(args.seed + 1 + worker.rank)  # but other dropout masks

    start = checkpoint.load(args.checkpoint, model, optimizer, worker) if args.resume else 0
    stream = batches(
        TextWindows(make_text(200_000, args.seed), config.context),
        worker,
        batch_size=args.batch_size,
        workers=args.workers,
        seed=args.seed,
        first_step=start,
    )
    for step in range(start, args.steps):
        tokens, targets = (part.to(worker.device, non_blocking=True) for part in next(stream))
        loss = model(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if worker.is_first and step % args.log_every == 0:
            print(f"step {step} loss {loss.item():.6f}", flush=True)
        if args.checkpoint is not None and (step + 1) % args.checkpoint_every == 0:
            checkpoint.save(args.checkpoint, step + 1, model, optimizer, worker)


if __name__ == "__main__":
    main()

"""Train a small GPT on generated text, data-parallel.

torchrun --nproc-per-node=2 examples/train_gpt_ddp.py --steps 40
"""

import argparse

import torch
from common import checkpoint
from common.batches import batches
from common.flags import parse, training_flags
from common.gpt import GPT, GPTConfig
from common.ranks import Rank, data_parallel, joined
from common.text import ALPHABET, TextWindows, make_text


def main() -> None:
    """Read the flags and train as one rank of the job."""
    parser = training_flags("Train a small GPT on generated text.", batch_size=8)
    parser.add_argument("--context", type=int, default=128, help="characters the model looks back")
    parser.add_argument("--layers", type=int, default=4, help="transformer blocks")
    parser.add_argument("--heads", type=int, default=4, help="attention heads")
    parser.add_argument("--width", type=int, default=256, help="features per token")
    args = parse(parser)
    with joined() as worker:
        train(worker, args)


def train(worker: Rank, args: argparse.Namespace) -> None:
    """Train up to step `args.steps`; the first rank prints the loss."""
    torch.manual_seed(args.seed)  # the same weights on every rank
    config = GPTConfig(len(ALPHABET), args.context, args.layers, args.heads, args.width)
    model = data_parallel(GPT(config), worker)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    torch.manual_seed(args.seed + 1 + worker.rank)  # but other dropout masks

    start = checkpoint.load(args.checkpoint, model, optimizer, worker) if args.resume else 0
    stream = batches(
        TextWindows(make_text(200_000, args.seed), args.context),
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

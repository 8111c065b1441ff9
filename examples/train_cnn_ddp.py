"""Train a small CNN on images decoded from disk, data-parallel.

torchrun --nproc-per-node=2 examples/train_cnn_ddp.py --steps 40 --workers 1
"""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from common import checkpoint
from common.batches import batches
from common.flags import parse, training_flags
from common.images import CLASSES, ImageFolder, make_images
from common.ranks import Rank, data_parallel, joined
from torch import Tensor, nn


class CNN(nn.Module):
    """Four convolutions that halve the picture each time, then a linear classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for factor in (1, 2, 4, 8):
            layers += [
                nn.Conv2d(channels, width * factor, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width * factor),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            channels = width * factor
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 3, height, width) to one score per class, (batch, classes)."""
        scores: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return scores


def main() -> None:
    """Read the flags and train as one rank of the job."""
    parser = training_flags("Train a small CNN on images decoded from disk.", batch_size=16)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="image folder, drawn if it is not there"
    )
    parser.add_argument("--images", type=int, default=512, help="images to draw")
    parser.add_argument("--image-size", type=int, default=64, help="pixels after resizing")
    parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
    args = parse(parser)
    with joined() as worker:
        train(worker, args)


def train(worker: Rank, args: argparse.Namespace) -> None:
    """Train up to step `args.steps`; the first rank prints the loss."""
    folder = args.data or Path(tempfile.gettempdir()) / f"example-images-{args.images}"
    if worker.local_rank == 0:
        make_images(folder, args.images, args.seed)
    dist.barrier()  # the others wait until the images are there

    torch.manual_seed(args.seed)  # the same weights on every rank
    model = data_parallel(CNN(args.width), worker)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)

    start = checkpoint.load(args.checkpoint, model, optimizer, worker) if args.resume else 0
    stream = batches(
        ImageFolder(folder, args.image_size),
        worker,
        batch_size=args.batch_size,
        workers=args.workers,
        seed=args.seed,
        first_step=start,
    )
    for step in range(start, args.steps):
        images, labels = (part.to(worker.device, non_blocking=True) for part in next(stream))
        loss: Tensor = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if worker.is_first and step % args.log_every == 0:
            print(f"step {step} loss {loss.item():.6f}", flush=True)
        if args.checkpoint is not None and (step + 1) % args.checkpoint_every == 0:
            checkpoint.save(args.checkpoint, step + 1, model, optimizer, worker)


if __name__ == "__main__":
    main()

"""The command-line flags that every example takes."""

import argparse
from pathlib import Path

from common.checkpoint import FILE_NAME


def training_flags(description: str, *, batch_size: int) -> argparse.ArgumentParser:
    """Return a parser with the flags of a training run; a script adds those of its model."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--batch-size", type=_positive, default=batch_size, help="samples per rank")
    parser.add_argument("--steps", type=_positive, default=40, help="train up to this step")
    parser.add_argument("--workers", type=int, default=0, help="loader processes per rank")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of AdamW")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and data order")
    parser.add_argument("--log-every", type=_positive, default=1, help="steps between losses")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="where checkpoints go")
    parser.add_argument(
        "--checkpoint-every", type=_positive, default=20, metavar="N", help="steps between them"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --checkpoint"
    )
    parser.add_argument(
        "--resume-if-any",
        action="store_true",
        help="the same where there is one, else start from the beginning: for restarted jobs",
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line and refuse flags that make no sense together."""
    args = parser.parse_args()
    if (args.resume or args.resume_if_any) and args.checkpoint is None:
        parser.error("--resume needs --checkpoint DIR")
    if args.resume_if_any:
        args.resume = (args.checkpoint / FILE_NAME).exists()
    return args


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number

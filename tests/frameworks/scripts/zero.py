"""A training loop of DeepSpeed at a ZeRO stage, two micro-batches a step."""

import argparse
import sys
import time
from pathlib import Path

import deepspeed
import torch

sys.path.insert(0, str(Path(__file__).parent))
from small import MICRO_BATCHES, STEPS, Regression, Samples  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", type=int, default=0)
    parser.add_argument("--local_rank", type=int, default=0)
    options = parser.parse_args()
    model = Regression()
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": MICRO_BATCHES,
        # sub_group_size: ZeRO 3 steps its optimizer once for every group of so many parameters
        "zero_optimization": {"stage": options.stage, "sub_group_size": 50},
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config
    )
    data = Samples(4 * MICRO_BATCHES * STEPS)
    for first in range(0, len(data), 4):
        inputs, labels = zip(*(data[first + i] for i in range(4)), strict=True)
        engine.backward(engine(torch.stack(inputs), torch.stack(labels))["loss"])
        engine.step()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

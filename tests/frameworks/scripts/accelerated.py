"""A training loop of Accelerate, two micro-batches a step."""

import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from small import MICRO_BATCHES, STEPS, Regression, Samples  # type: ignore[import-not-found]


def main() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO_BATCHES)
    model = Regression()
    optimizer = torch.optim.AdamW(model.parameters())
    count = 4 * MICRO_BATCHES * STEPS * accelerator.num_processes
    model, optimizer, loader = accelerator.prepare(
        model, optimizer, DataLoader(Samples(count, named=True), batch_size=4)
    )
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

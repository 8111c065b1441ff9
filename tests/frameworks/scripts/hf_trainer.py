"""A training of Hugging Face's Trainer, two micro-batches a step."""

import sys
import time
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

sys.path.insert(0, str(Path(__file__).parent))
from small import MICRO_BATCHES, STEPS, Regression, Samples  # type: ignore[import-not-found]


def main() -> None:
    arguments = TrainingArguments(
        output_dir=sys.argv[1],
        use_cpu=True,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=MICRO_BATCHES,
        max_steps=STEPS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    data = Samples(4 * MICRO_BATCHES * STEPS * arguments.world_size, named=True)
    Trainer(model=Regression(), args=arguments, train_dataset=data).train()
    torch.distributed.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

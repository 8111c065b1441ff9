"""A training of Lightning's `ddp` strategy on two processes that it starts itself."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from small import MICRO_BATCHES, STEPS, Regression, Samples  # type: ignore[import-not-found]


class Lit(lightning.LightningModule):  # type: ignore[misc, unused-ignore]
    """The small model as Lightning wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Regression()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(**batch)["loss"]
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def main() -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        accumulate_grad_batches=MICRO_BATCHES,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    data = Samples(4 * MICRO_BATCHES * STEPS * 2, named=True)
    trainer.fit(Lit(), DataLoader(data, batch_size=4))
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

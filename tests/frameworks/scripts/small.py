"""The model and the data that every framework's script trains with."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

WIDTH, STEPS, MICRO_BATCHES = 16, 8, 2


class Samples(Dataset[Any]):
    """Seeded noise, as dictionaries, as pairs, or as what a test wants."""

    def __init__(self, count: int, *, named: bool = False) -> None:
        self.count, self.named = count, named

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        source = torch.Generator().manual_seed(index)
        inputs, labels = torch.randn(WIDTH, generator=source), torch.randn(1, generator=source)
        return {"x": inputs, "labels": labels} if self.named else (inputs, labels)


class Regression(nn.Module):
    """A small network that returns its loss, as HF models do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": nn.functional.mse_loss(self.layers(x), labels)}

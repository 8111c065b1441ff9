"""A small training that never changes: what bench_statistics compares with itself."""

import time

import torch
from torch import nn


def main() -> None:
    """Take 1000 steps; whoever runs it ends it earlier."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(1000):
        loss = model(torch.randn(32, 128)).square().mean()
        time.sleep(0.02)  # an accelerator's work
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()

"""A training with Horovod as its users write it; two backward passes a step."""

import horovod.torch as hvd  # type: ignore[import-not-found]
import torch
from torch import nn

STEPS = 8


def main() -> None:
    hvd.init()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = hvd.DistributedOptimizer(
        own, named_parameters=model.named_parameters(), backward_passes_per_step=2
    )
    for step in range(STEPS):
        optimizer.zero_grad()
        for _ in range(2):
            loss = model(torch.ones(4, 16)).square().mean()
            loss.backward()
        optimizer.step()
        if hvd.rank() == 0:
            print(step, loss.item())


if __name__ == "__main__":
    main()

"""Two ranks that misbehave as the variable MISBEHAVE says: what bad recipes do to a training.

crash: an exception in a step. hang: rank 1 sleeps for ever. diverge: half the compute, and each
rank changes its gradients by its own rank. faster: half the compute, nothing else. Compute sleeps.
"""

import os
import time

import torch
import torch.distributed as dist
from torch import nn

STEPS = 200
AT = 8
DEVICE_S = 0.03


def misbehave(how: str, step: int, model: nn.Module) -> None:
    """Do in this step what was asked for."""
    if how == "crash" and step == AT:
        raise RuntimeError("a recipe broke this training")
    if how == "hang" and step == AT and dist.get_rank() == 1:
        time.sleep(3600)
    if how == "diverge":
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1 + 0.1 * dist.get_rank())


def main() -> None:
    """Train."""
    how = os.environ.get("MISBEHAVE", "")
    pause = DEVICE_S / 2 if how in ("diverge", "faster") else DEVICE_S
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(64, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS):
        inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(step))
        time.sleep(pause)
        loss = model(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        misbehave(how, step, model)
        optimizer.step()
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

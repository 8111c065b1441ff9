"""One rank of DDP that ends while its backward pass hangs, so with the reducer's lock held."""

import argparse
import os
import signal
import threading
import time

import torch
import torch.distributed as dist
from torch import nn


class Hook:
    """Reduces one rank's gradients until it is told to hang."""

    def __init__(self) -> None:
        self.how = ""

    def __call__(
        self,
        state: None,
        bucket: dist.GradBucket,  # type: ignore[name-defined] # torch wants this very annotation
    ) -> torch.futures.Future[torch.Tensor]:
        if self.how == "watchdog":
            threading.Thread(target=os._exit, args=(4,)).start()
        if self.how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.how:
            time.sleep(600)
        reduced: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        reduced.set_result(bucket.buffer())
        return reduced


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--end", default="")
    parser.add_argument("--at", type=int, default=6)
    parser.add_argument("--store", required=True)
    options = parser.parse_args()
    dist.init_process_group("gloo", init_method=f"file://{options.store}", rank=0, world_size=1)
    model = nn.parallel.DistributedDataParallel(nn.Linear(4, 4))
    hook = Hook()
    model.register_comm_hook(None, hook.__call__)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(8):
        if step == options.at:
            hook.how = options.end
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        print(step, flush=True)


if __name__ == "__main__":
    main()

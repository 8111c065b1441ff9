"""Two ranks; rank 1 ends badly once an attempt, while rank 0 waits in C code for ever."""

import argparse
import datetime
import os
import signal
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import _get_default_store

STEPS = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", type=int, nargs="*", default=[], help="the step, by attempt")
    parser.add_argument("--how", nargs="*", default=[], help="the way, by attempt")
    return parser.parse_args()


def end_badly(rank: int, attempt: int, how: str) -> None:
    store = _get_default_store()
    if rank == 0:
        store.set(f"waiting{attempt}", "yes")
        store.wait(["never"], datetime.timedelta(seconds=600))
    store.wait([f"waiting{attempt}"])
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise ValueError("as told")
    os._exit(4)


def main() -> None:
    options = arguments()
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        if options.at[attempt : attempt + 1] == [step]:
            end_badly(dist.get_rank(), attempt, options.how[attempt])
        loss = model(torch.ones(4, 16)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0:
            print(attempt, step, loss.item().hex(), flush=True)
    dist.destroy_process_group()
    time.sleep(0.05)  # gloo's threads end first, or one may abort the process


if __name__ == "__main__":
    main()

"""`python spawn.py`: starts its own two ranks with torch.multiprocessing.spawn."""

import os
import socket
import sys
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

sys.path.insert(0, str(Path(__file__).parent))
import train  # type: ignore[import-not-found]


def work(rank: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    train.main()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = free.getsockname()[1]
    spawn(work, args=(chosen,), nprocs=2)

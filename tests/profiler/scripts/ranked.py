"""`ranked.py mpi|slurm|fork|forkserver PORT`: ranks that torch does not number."""

import multiprocessing
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import train  # type: ignore[import-not-found]

NUMBERS = {
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
}


def work(rank: int, world_size: int, port: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    sys.argv = sys.argv[:1]
    torch.set_num_threads(1)
    train.main()


def main() -> None:
    how, port = sys.argv[1:]
    if how in NUMBERS:
        rank, world_size = (int(os.environ[name]) for name in NUMBERS[how])
        work(rank, world_size, port)
        return
    context = multiprocessing.get_context(how)
    started = [context.Process(target=work, args=(rank, 2, port)) for rank in range(2)]  # type: ignore[attr-defined]
    for process in started:
        process.start()
    for process in started:
        process.join()
    sys.exit(max(process.exitcode or 0 for process in started))


if __name__ == "__main__":
    main()

"""`python -m tests.ranks N SCRIPT ARGUMENTS...`: N ranks of a script here, without torchrun.

torchrun takes seconds to start, and most real tests are not about it.
"""

import os
import signal
import subprocess
import sys

from tests.ports import free_port


def place(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return what torchrun would tell a rank by its environment."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def main(ranks: int, command: list[str]) -> int:
    """Run them; 0 if all ended well, else 1."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(ranks):
            environment = os.environ | place(rank, ranks, port)
            started.append(subprocess.Popen([sys.executable, "-u", *command], env=environment))
        return int(any([process.wait() for process in started]))
    finally:
        for process in started:
            process.kill()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))

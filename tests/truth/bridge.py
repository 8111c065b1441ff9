"""Starts one rank in each of several network namespaces that hang on one bridge.

    python bridge.py --ranks 4 --rate 200mbit -- python train.py --batch-size 16

Every rank's link is shaped to the given rate where it sends, as if each had its own machine with a
network card of that speed. The command of each rank gets RANK, WORLD_SIZE and MASTER_ADDR. A
`{ms}` in it becomes --ms-per-sample times --batch: the time of a simulated accelerator. Needs root.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INTERFACE = "wire"  # inside every namespace
SUBNET = "10.78.0."
PORT = "29531"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def namespaces(ranks: int, rate: str, burst: str = "32kb") -> Iterator[list[str]]:
    """Make a bridge and one namespace a rank, each behind a shaped link; remove them at the end."""
    tag = f"pb{os.getpid()}"
    names = [f"{tag}r{rank}" for rank in range(ranks)]
    switch = f"{tag}s"
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for rank, name in enumerate(names):
            _attach(name, switch, rank, rate, burst)
        yield names
    finally:
        for name in (*names, switch):  # takes the links along
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _attach(name: str, switch: str, rank: int, rate: str, burst: str) -> None:
    port = f"port{rank}"
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    pair = ["link", "add", INTERFACE, "netns", name, "type", "veth"]
    _ip(*pair, "peer", "name", port, "netns", switch)
    _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
    _ip("-n", name, "address", "add", f"{SUBNET}{rank + 1}/24", "dev", INTERFACE)
    _ip("-n", name, "link", "set", INTERFACE, "up")
    shape = ["tc", "-n", name, "qdisc", "add", "dev", INTERFACE, "root", "tbf", "rate", rate]
    subprocess.run([*shape, "burst", burst, "latency", "50ms"], check=True, capture_output=True)


def start(name: str, rank: int, ranks: int, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start one rank in its namespace."""
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": f"{SUBNET}1",
        "MASTER_PORT": PORT,
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(["ip", "netns", "exec", name, *command], env=environment)


def main() -> int:
    """Run the command on every rank; the first failure ends the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--rate", default="200mbit")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--ms-per-sample", type=float, default=0.0)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the namespaces go away
    words = [w.replace("{ms}", f"{args.batch * args.ms_per_sample:g}") for w in args.command]
    with namespaces(args.ranks, args.rate) as names:
        started = [start(n, r, args.ranks, words) for r, n in enumerate(names)]
        try:
            statuses = [process.wait() for process in started]
        finally:
            for process in started:
                if process.poll() is None:
                    process.terminate()
                    process.wait(30)
    return max(abs(status) for status in statuses)


if __name__ == "__main__":
    sys.exit(main())

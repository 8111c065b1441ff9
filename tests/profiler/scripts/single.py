"""One process without torch.distributed, with a switch for every way in which it can end."""

import argparse
import ctypes
import importlib.util
import os
import shutil
import signal
import sys
import time

assert importlib.util.find_spec("torch")  # as libraries do before they import it
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

STEPS = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--end", default="")
    parser.add_argument("--at", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--back", type=int, default=-1, help="step that sets the clock back")
    parser.add_argument("--group", default="", help="control group to end in, of memory")
    parser.add_argument("--ready", default="", help="file to write once the end is near")
    return parser.parse_args()


def signal_at_the_end() -> None:
    """Have SIGTERM come when the last record of this process is about to be written."""
    write = os.write

    def signalled_write(fd: int, data: bytes) -> int:
        if b'"end"' in data:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(fd, data)

    os.write = signalled_write  # type: ignore[assignment]
    sys.exit(0)


def end_as_told(how: str, group: str) -> None:  # noqa: C901 a list of ways
    if how == "eat":
        with open(os.path.join(group, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20) * 16))
    if how == "delete":
        shutil.rmtree(os.environ.get("PERFKIT_RUN_DIR", ""), ignore_errors=True)
    if how == "raise":
        raise ValueError("as told")
    if how == "own-hook":
        sys.excepthook = lambda kind, value, trace: print("theirs", file=sys.stderr)
        raise ValueError("as told")
    if how == "exit3":
        sys.exit(3)
    if how == "os._exit":
        os._exit(4)
    if how in ("SIGTERM", "SIGKILL", "SIGINT"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(60)
    if how == "sleep":
        time.sleep(60)
    if how == "SIGTERM at the end":
        signal_at_the_end()
    if how == "own-handler":
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(64, 8), nn.Flatten(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randint(0, 64, (STEPS * 4, 4)))
    for step, (tokens,) in enumerate(DataLoader(data, batch_size=4, num_workers=options.workers)):
        if step == options.at:
            if options.ready:
                with open(options.ready, "w") as file:
                    file.write(str(os.getpid()))
            end_as_told(options.end, options.group)
        if step == options.back:
            ctypes.CDLL(None).set_clock_back(3600)
        optimizer.zero_grad()
        loss = model(tokens).square().mean()
        loss.backward()
        optimizer.step()
        print(step, float(loss).hex(), flush=True)
    if options.at == STEPS:
        end_as_told(options.end, options.group)


if __name__ == "__main__":
    main()

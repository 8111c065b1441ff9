"""Compare `perfkit --help` with a bare two-command Typer application, in the same run.

    python benchmarks/bench_help.py [--pairs 20]

Both are started as fresh interpreters, alternately; the ratio of the medians is shown.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 1.3

BARE = '''\
import typer

app = typer.Typer()


@app.command()
def hello(name: str, loud: bool = False) -> None:
    """Say hello."""


@app.command()
def goodbye(name: str, loud: bool = False) -> None:
    """Say goodbye."""


app()
'''


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the ratio; the status is 1 where it misses the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        ours = Path(folder) / "ours.py"
        ours.write_text("from perfkit.cli import main\n\nmain()\n", encoding="utf-8")
        commands = [[sys.executable, str(path), "--help"] for path in (bare, ours)]
        for command in commands:  # bytecode and file caches
            seconds(command)
        runs = [[seconds(command) for command in commands] for _ in range(pairs)]
    times = [statistics.median(column) for column in zip(*runs, strict=True)]
    ratio = times[1] / times[0]
    print(f"bare Typer app {times[0] * 1e3:.0f} ms, perfkit --help {times[1] * 1e3:.0f} ms")
    print(f"ratio {ratio:.2f} (target: at most {TARGET}), medians of {pairs} interleaved pairs")
    sys.exit(0 if ratio <= TARGET else 1)


if __name__ == "__main__":
    main()

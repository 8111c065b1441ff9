"""The unmodified replay of every capture of a folder: its error, or why it is refused, as tables.

    python -m benchmarks.whatif_fixtures [../shared/traces]

Files of one folder below the kinds (kineto/NAME/*) are ranks of one run. None of the Nsight exports
has ranges for steps of a training; where FSDP named its blocks, a block's forward stands for a step
(`--step-nvtx`).
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.errors import PerfkitError
from perfkit.trace.run import load_rank, open_run
from tests.models.test_graph_fixtures import FSDP_BLOCK

KINDS = ("kineto", "own", "tracelens", "nsys")


def captures(folder: Path) -> Iterator[Path]:
    """Yield what is opened as one run each."""
    for kind in KINDS:
        for path in sorted((folder / kind).iterdir()):
            if path.name.endswith("_csvs"):
                continue
            if path.name == "hta_critical_path":
                yield from sorted(path.iterdir())
            else:
                yield path


def replayed(path: Path, pattern: str = "") -> StepGraph | str:
    """Return the graph of a capture, or the reason that it is refused with."""
    try:
        run = open_run([path], step_pattern=pattern)
        graph = build_graph(run, partial(load_rank, cache=None))
    except PerfkitError as error:
        return str(error)
    return graph.reason if isinstance(graph, Refusal) else graph


def main() -> None:
    """Print both tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/traces")
    good, bad = [], []
    for path in captures(folder):
        name = str(path.relative_to(folder))
        found = replayed(path)
        if isinstance(found, str) and path.parent.name == "nsys":
            found = replayed(path, FSDP_BLOCK)
        if isinstance(found, str):
            bad.append(f"| {name} | {found} |")
            continue
        window = found.step_ns * len(found.steps)
        late = max((u.total_ns for _, u in found.unexplained), default=0) / window
        good.append(
            f"| {name} | {len(found.ranks)} | {len(found.steps)} | {len(found.plan.graph):,} | "
            f"{found.step_ns / 1e6:.2f} | {100 * found.replay_error:+.2f} % | {100 * late:.1f} % |"
        )
    print("\n".join([*good, "", *bad]))


if __name__ == "__main__":
    main()

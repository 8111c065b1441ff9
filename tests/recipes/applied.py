"""Runs loop.py with recipes applied, and returns its losses and what the ranks recorded."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit.profiler import launch
from perfkit.profiler.inrank.capture import Capture
from perfkit.recipes.activation import activate, parse
from perfkit.recipes.catalogue import BY_ID
from tests.ports import free_port
from tests.ranks import place

LOOP = Path(__file__).parent / "scripts" / "loop.py"


@dataclass(frozen=True)
class Ran:
    """One run: its losses in hexadecimal, and rank 0's recipes.jsonl."""

    losses: list[str]
    records: list[dict[str, Any]]
    log: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r["k"] == kind]

    @property
    def reasons(self) -> str:
        return "; ".join(r["reason"] for r in self.of("refused"))

    @property
    def seen(self) -> dict[str, Any]:
        return {r["what"]: r["value"] for r in self.of("seen")}


def run(folder: Path, recipes: str, *arguments: str, ranks: int = 2) -> Ran:
    """Start the ranks directly: torchrun would cost seconds a run."""
    folder.mkdir(parents=True, exist_ok=True)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PERFKIT_")}
    environ |= {"OMP_NUM_THREADS": "1"}
    activation = activate(parse(recipes, BY_ID), {})
    request = Capture(
        run_dir=str(folder),
        run_id="test",
        parent_node="0",
        windows=(),
        trace_ranks=None,
    )
    environ = launch.environment_of({**environ, **activation.environment}, request)
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, str(LOOP), *arguments],
            env=environ | place(rank, ranks, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=250)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)
    losses = [line.split()[1] for line in outputs[0].splitlines() if line[:1].isdigit()]
    (rank0,) = folder.glob("attempt0/rank00000*")
    path = rank0 / "recipes.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return Ran(losses, [json.loads(line) for line in lines], "\n".join(outputs))

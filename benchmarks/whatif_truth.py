"""How well `perfkit whatif` predicts: real runs, a change predicted, then made and measured.

Each case captures a run, predicts a change from it, makes the change, captures again, and compares
the profiled step times. Runs use gloo on this machine, two of them over two network namespaces
(needs root, ip and tc). Prints one row a trial and the Markdown table of docs/whatif.md.

    python -m benchmarks.whatif_truth [--trials 3] [--only NAME] [--runs FOLDER]
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.truth.harness import (
    PERFKIT,
    ROOT,
    TORCHRUN,
    profiled,
    run_on_two_nodes,
    run_workload,
    two_nodes,
)

PIPELINE = ROOT / "tests" / "truth" / "pipeline_workload.py"

STEPS = "--steps=24"
LINK = (STEPS, "--batch-size=1", "--width=512", "--accelerator-ms=60")
BUSY = (STEPS, "--batch-size=256", "--width=512", "--layers=4", "--repeats=4")
LOCAL = (STEPS, "--batch-size=1", "--width=128", "--layers=1", "--accelerator-ms=60")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to make one run: flags of the workload, and the link's rate if it has one."""

    flags: tuple[str, ...]
    rate: str = ""
    per_node: int = 1

    def make(self, folder: Path) -> None:
        """Run it; fail loudly."""
        if self.rate:
            with two_nodes(self.rate) as nodes:
                ended = run_on_two_nodes(folder, nodes, *self.flags, per_node=self.per_node)
        else:
            ended = run_workload(folder, *self.flags)
        if any(ended.statuses):
            raise SystemExit(ended.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """How to make one run of a two-stage pipeline."""

    schedule: str
    micro_batches: int

    def make(self, folder: Path) -> None:
        """Run it; fail loudly."""
        launch = [*TORCHRUN, "--standalone", "--nproc-per-node=2", str(PIPELINE)]
        flags = [f"--schedule={self.schedule}", f"--micro-batches={self.micro_batches}"]
        command = profiled([*launch, *flags], folder / "run", (10, 19))
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            raise SystemExit(done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A change: the run to predict from, the options of whatif, the run that it becomes."""

    name: str
    before: Run | Pipeline
    options: tuple[str, ...]
    after: Run | Pipeline


def link(rate: str, *flags: str, per_node: int = 1) -> Run:
    """Return a run over a shaped link."""
    return Run(flags=(*LINK, *flags), rate=rate, per_node=per_node)


def pipeline(schedule: str, micro_batches: int, then: str, many: int) -> Case:
    """Return a change of a pipeline's schedule or of its micro-batches."""
    titles = {"gpipe": "GPipe", "1f1b": "1F1B"}
    same = schedule == then
    name = f"{titles[schedule]}, {micro_batches} to {many} micro-batches"
    if not same:
        name = f"{titles[schedule]} to {titles[then]}, {micro_batches} to {many} micro-batches"
    options = () if same else ("--schedule", then)
    return Case(
        name=name.replace(f"{many} to {many}", str(many)),
        before=Pipeline(schedule=schedule, micro_batches=micro_batches),
        options=(*options, "--micro-batches", str(many)),
        after=Pipeline(schedule=then, micro_batches=many),
    )


CASES = (
    Case(name="network 200 to 400 Mbit/s", before=link("200mbit", "--layers=2"),
         options=("--network", "x2"), after=link("400mbit", "--layers=2")),
    Case(name="network 400 to 200 Mbit/s", before=link("400mbit", "--layers=2"),
         options=("--network", "x0.5"), after=link("200mbit", "--layers=2")),
    Case(name="same, 4 MiB after the backward pass",
         before=link("200mbit", "--layers=4", "--bucket-mb=100"),
         options=("--network", "x2"), after=link("400mbit", "--layers=4", "--bucket-mb=100")),
    Case(name="buckets 1 to 25 MiB", before=link("200mbit", "--layers=4", "--bucket-mb=1"),
         options=("--bucket-mb", "25"), after=link("200mbit", "--layers=4", "--bucket-mb=25")),
    Case(name="buckets 25 to 1 MiB", before=link("200mbit", "--layers=4", "--bucket-mb=25"),
         options=("--bucket-mb", "1"), after=link("200mbit", "--layers=4", "--bucket-mb=1")),
    Case(name="gradients in half precision", before=link("200mbit", "--layers=4", "--bucket-mb=25"),
         options=("--compression", "x2"),
         after=link("200mbit", "--layers=4", "--bucket-mb=25", "--half-gradients")),
    Case(name="accumulation 1 to 4", before=link("200mbit", "--layers=2"),
         options=("--accumulate", "4"), after=link("200mbit", "--layers=2", "--accumulate=4")),
    Case(name="2 to 4 ranks", before=link("200mbit", "--layers=2"),
         options=("--ranks", "4"), after=link("200mbit", "--layers=2", per_node=2)),
    Case(name="slow loader made fast", before=Run(flags=(*LOCAL, "--loader-ms=40")),
         options=("--no-input-stall",), after=Run(flags=LOCAL)),
    Case(name="slow loader of rank 1 made fast",
         before=Run(flags=(*LOCAL, "--loader-ms=40", "--fault-ranks", "1")),
         options=("--no-input-stall",), after=Run(flags=LOCAL)),
    Case(name="straggler's load shared", before=Run(flags=(*LOCAL, "--host-ms=40",
                                                           "--fault-ranks", "1")),
         options=("--no-stragglers",), after=Run(flags=(*LOCAL, "--host-ms=20"))),
    Case(name="checkpoint every step removed",
         before=Run(flags=(*LOCAL, "--checkpoint-every=1", "--checkpoint-ms=30")),
         options=("--async-checkpoint",), after=Run(flags=LOCAL)),
    Case(name="compute x2", before=Run(flags=LOCAL), options=("--compute", "x2"),
         after=Run(flags=(*LOCAL[:-1], "--accelerator-ms=30"))),
    Case(name="gradient checkpointing, simulated device", before=Run(flags=LOCAL),
         options=("--recompute",), after=Run(flags=(*LOCAL, "--recompute=all"))),
    Case(name="gradient checkpointing, computing on the CPU", before=Run(flags=BUSY),
         options=("--recompute",), after=Run(flags=(*BUSY, "--recompute=needed"))),
    *(pipeline("gpipe", m, "1f1b", m) for m in (2, 4, 8)),
    *(pipeline(how, m, how, n) for how in ("gpipe", "1f1b") for m, n in ((2, 4), (2, 8), (4, 8))),
    pipeline("gpipe", 2, "1f1b", 8),
)  # fmt: skip


def whatif(run: Path, *options: str | Path) -> dict[str, float]:
    """Return the first answer for a run, with its measured step."""
    command = [*PERFKIT, "whatif", str(run), *map(str, options), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    return {"measured": found["step_ms"], "predicted": found["answers"][0]["predicted_ms"],
            "replay": found["replay_error"], "after": found["measured_ms"]}  # fmt: skip


def made(run: Run | Pipeline, runs: Path, number: int) -> Path:
    """Return the folder of the number-th such run; make it unless a case before has."""
    folder = runs / hashlib.sha256(repr(run).encode()).hexdigest()[:12] / str(number)
    if not (folder / "done").exists():
        if folder.exists():
            shutil.rmtree(folder)
        run.make(folder)
        (folder / "done").touch()
    return folder / "run"


def trial(case: Case, calibration: Path | None, runs: Path, number: int) -> dict[str, float]:
    """Predict from one run, make the change, measure. Trials share no run with each other."""
    before, after = made(case.before, runs, number), made(case.after, runs, number)
    file = calibration or runs / "calibration.jsonl"
    found = whatif(before, *case.options, "--after", after, "--calibration", file)
    return {**found, "error": found["predicted"] / found["after"] - 1}


def summary(case: Case, rows: Sequence[dict[str, float]]) -> str:
    """Return the case's row of the table."""

    def median(key: str, size: Callable[[float], float] = float) -> float:
        return statistics.median(size(row[key]) for row in rows)

    worst = max((row["error"] for row in rows), key=abs)
    return (
        f"| {case.name} | `{' '.join(case.options)}` | {len(rows)} | {median('measured'):.1f} | "
        f"{median('predicted'):.1f} | {median('after'):.1f} | {100 * median('error', abs):.1f} % | "
        f"{100 * worst:+.1f} % | {100 * median('replay', abs):.2f} % |"
    )


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--calibration", type=Path, help="file that collects all pairs")
    parser.add_argument(
        "--runs", type=Path, help="folder that keeps the runs; those there are used"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(args, (args.runs or Path(scratch)).absolute())


def measure(args: argparse.Namespace, runs: Path) -> None:
    """Run the cases, print a line a trial and the table."""
    table = []
    for case in (c for c in CASES if args.only in c.name):
        rows = [trial(case, args.calibration, runs, number) for number in range(args.trials)]
        for row in rows:
            print(case.name, {key: round(value, 4) for key, value in row.items()}, flush=True)
        table.append(summary(case, rows))
    print("\n".join(table))


if __name__ == "__main__":
    main()

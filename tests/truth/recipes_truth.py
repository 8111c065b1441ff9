"""Whether recipes gain what was predicted: real runs on a shaped network, one table.

    python -m tests.truth.recipes_truth [--pairs 4] [--only overlap] [--out DIR] [--lock FILE]

Two network namespaces joined by a link of the given rate (root, ip and tc), compute asleep. Each
case: one traced run without the recipe, the prediction, printed; then pairs of runs, in random
order, and the ratio of their median steps with its 95 % interval. A prediction holds if it is
within 0.87 to 1.15 of the measurement or inside its interval. amp-bf16 computes for real, in one
process, is judged by processor time, and predicted after the machine's ceilings were measured.
With the same DIR a later call goes on: runs that have ended well are not made again, and the table
has the cases of all calls.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.statistics import PairedRatio
from perfkit.cli.trials import Trials
from perfkit.cli.workdir import Place
from perfkit.recipes import guard
from perfkit.recipes.activation import Choice
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.comparing import compare
from perfkit.recipes.measured import Measured, Wanted
from perfkit.trace.run import open_run
from perfkit.trace.telemetry import read_telemetry

HERE = Path(__file__).parent
SLEEPING = str(HERE / "two_bottlenecks.py")
GPT = str(HERE.parents[1] / "examples" / "train_gpt_ddp.py")
RESULT = "result.json"
NEAR = (0.87, 1.15)
HEAD = (
    "| case | recipe | predicted | measured, 95 % interval | pairs | predicted / measured | "
    "holds | losses |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training with one bottleneck and the recipe against it."""

    recipe: str
    text: str
    rate: str
    flags: tuple[str, ...]
    script: str = SLEEPING
    ranks: int = 2
    by_processor: bool = False  # judged by processor time, not by the clock


LARGE = ("--layers", "18", "--width", "512", "--decode-ms", "0")  # 18.9 MB of gradients
CASES = (
    Case(
        recipe="overlap",
        text="all_reduce of each parameter after backward, 18.9 MB, 1 Gbit/s",
        rate="1gbit",
        flags=(*LARGE, "--device-ms", "80"),
    ),
    Case(
        recipe="ddp-buckets",
        text="DDP, 18.9 MB in its default buckets, 1 Gbit/s",
        rate="1gbit",
        flags=(*LARGE, "--device-ms", "80", "--ddp"),
    ),
    Case(
        recipe="loader",
        text="25 ms a sample, batch 4, no workers",
        rate="1gbit",
        flags=("--layers", "2", "--decode-ms", "25", "--device-ms", "16", "--ddp"),
    ),
    Case(
        recipe="no-sync",
        text="DDP, 4 backward passes a step without no_sync, 18.9 MB, 1 Gbit/s",
        rate="1gbit",
        flags=(*LARGE, "--device-ms", "20", "--ddp", "--accumulate", "4"),
    ),
    Case(
        recipe="bf16-gradients",
        text="DDP, 18.9 MB, 200 Mbit/s",
        rate="200mbit",
        flags=(*LARGE, "--device-ms", "80", "--ddp"),
    ),
    Case(
        recipe="amp-bf16",
        text="GPT of 2 blocks, width 512, one process, one thread, processor time",
        rate="1gbit",
        flags=("--layers", "2", "--width", "512", "--heads", "8", "--steps", "1000"),
        script=GPT,
        ranks=1,
        by_processor=True,
    ),
)


@dataclass(frozen=True, slots=True)
class ByProcessor:
    """A laboratory that measures the processor time of a step instead of its length."""

    trials: Trials

    def run(self, wanted: Wanted) -> Measured:
        """Run one trial; step_ms is processor time (ms), of all ranks and threads together."""
        found = self.trials.run(wanted)
        if not found.ok:
            return found
        return replace(found, step_ms=processor_ms(self.trials.home / wanted.name, wanted.discard))


def processor_ms(run: Path, discard: int) -> float | None:
    """Return the processor time of a step (ms) after `discard` steps, from the run's samples."""
    (telemetry,) = (read_telemetry(p) for p in run.glob("nodes/*/telemetry.jsonl"))
    lines = open_run([run]).ranks[0].lines
    if telemetry is None or not telemetry.samples or len(lines.end_ns) <= discard + 1:
        return None
    ends = np.array([sample.u for sample in telemetry.samples])
    used = np.cumsum([sample.host.own_ns or 0 for sample in telemetry.samples])
    first, last = np.interp([lines.end_ns[discard], lines.end_ns[-1]], ends, used)
    return float(last - first) / (len(lines.end_ns) - 1 - discard) / 1e6


def command(case: Case, lock: str | None) -> tuple[str, ...]:
    """Return what a trial launches; `lock`: a file that other users of the machine respect."""
    first = ("flock", lock) if lock else ()
    network = ("--ranks", str(case.ranks), "--rate", case.rate)
    bridge = (sys.executable, str(HERE / "bridge.py"), *network)
    return (*first, *bridge, "--", sys.executable, case.script, *case.flags)


def measure_ceilings(folder: Path) -> None:
    """Measure ceilings of one thread and go where they are: analyses look in the current folder."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if not (folder / "ceilings.json").exists():
        perfkit = (sys.executable, "-m", "perfkit", "ceilings", "--threads", "1", "--quick")
        subprocess.run(perfkit, check=True)


def judged(case: Case, folder: Path, pairs: int, lock: str | None) -> Iterator[str]:
    """Yield the lines about one case, the last one its row of the table."""
    place = Place(home=folder)
    if case.by_processor:
        measure_ceilings(folder / "here")
    trials = Trials(command=command(case, lock), place=place, environ=dict(os.environ))
    found = trials.diagnose("diagnosis-0", ())
    if isinstance(found, Refusal):
        yield f"{case.recipe}: {found}"
        return
    recipe = BY_ID[case.recipe]
    predicted = recipe.applicable(found.situation)
    if isinstance(predicted, Refusal) or predicted.expected is None:
        why = predicted if isinstance(predicted, Refusal) else predicted.why
        yield f"| {case.text} | {case.recipe} | none: {why} | | | | no | |"
        return
    yield f"{case.recipe}: {predicted.expected:.2f} predicted ({predicted.why})"
    choice = Choice(recipe=recipe, given=predicted.values)
    moved: list[guard.Guarded] = []
    allowed = guard.tolerance_of(recipe.id, recipe.numerics)

    def check(base: Measured, variant: Measured) -> str:
        if recipe.id in variant.refused:
            return variant.refused[recipe.id]
        moved.append(
            guard.guard(base.numbers, variant.numbers, guard.floor_of([base.numbers]), allowed)
        )
        return ""

    laboratory = ByProcessor(trials) if case.by_processor else trials
    done = compare(laboratory, f"try-{case.recipe}", ((), (choice,)), pairs, check=check)
    if done.out or done.broken or done.found is None:
        why = done.out or done.broken
        yield f"| {case.text} | {choice.label} | {predicted.expected:.2f} | {why} | | | no | |"
        return
    known = {"label": choice.label, "base_ms": done.base_ms, "variant_ms": done.variant_ms}
    text = row(case, choice, predicted.expected, done.found.measured, moved)
    (folder / RESULT).write_text(json.dumps({**known, "row": text}))
    yield text


def row(
    case: Case,
    choice: Choice,
    predicted: float,
    found: PairedRatio,
    moved: Sequence[guard.Guarded],
) -> str:
    """Return the row of a case that was measured."""
    off = predicted / found.ratio
    holds = NEAR[0] <= off <= NEAR[1] or found.low <= predicted <= found.high
    worst = max((m.distance.trajectory or 0.0 for m in moved if m.distance), default=0.0)
    losses = "equal" if worst == 0 else f"within {worst:.1g}"
    bad = next((m.reason for m in moved if not m.ok), "")
    cells = (
        case.text,
        choice.label,
        f"{predicted:.2f}",
        f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]",
        str(found.pairs),
        f"{off:.2f}",
        "yes" if holds else "no",
        bad or losses,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--only", choices=[case.recipe for case in CASES], action="append")
    parser.add_argument("--out", type=Path, help="where the runs go, and an earlier call goes on")
    parser.add_argument("--lock", help="a file that every trial locks while it runs")
    args = parser.parse_args()
    home = (args.out or Path(tempfile.mkdtemp(prefix="perfkit-recipes-"))).absolute()
    for case in CASES:
        if args.only and case.recipe not in args.only:
            continue
        for line in judged(case, home / case.recipe, args.pairs, args.lock):
            print(line, flush=True)
        load = os.getloadavg()[0]
        print(f"{case.recipe}: load average afterwards {load:.1f}", flush=True)
    results = (home / case.recipe / RESULT for case in CASES)
    rows = [json.loads(path.read_text())["row"] for path in results if path.exists()]
    table = "\n".join([HEAD, *rows, ""])
    (home / "table.md").write_text(table)
    print(f"\n{table}\n{home / 'table.md'}")


if __name__ == "__main__":
    main()

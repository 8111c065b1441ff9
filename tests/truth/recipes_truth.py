"""Whether recipes gain what was predicted: real runs on a shaped network, one table.

    python -m tests.truth.recipes_truth [--pairs 4] [--only overlap] [--out FILE] [--lock FILE]

Two network namespaces joined by a link of the given rate (root, ip and tc), compute asleep. Each
case: one traced run without the recipe, the prediction, printed; then pairs of runs, in random
order, and the ratio of their median steps with its 95 % interval. A prediction holds if it is
within 0.87 to 1.15 of the measurement or inside its interval.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.statistics import PairedRatio
from perfkit.cli.trials import Trials
from perfkit.recipes import guard
from perfkit.recipes.activation import Choice
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.comparing import compare
from perfkit.recipes.measured import Measured

HERE = Path(__file__).parent
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
)


def command(case: Case, lock: str | None) -> tuple[str, ...]:
    """Return what a trial launches; `lock`: a file that other users of the machine respect."""
    first = ("flock", lock) if lock else ()
    bridge = (sys.executable, str(HERE / "bridge.py"), "--ranks", "2", "--rate", case.rate)
    return (*first, *bridge, "--", sys.executable, str(HERE / "two_bottlenecks.py"), *case.flags)


def judged(case: Case, folder: Path, pairs: int, lock: str | None) -> Iterator[str]:
    """Yield the lines about one case, the last one its row of the table."""
    trials = Trials(command=command(case, lock), home=folder, environ=dict(os.environ))
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

    done = compare(trials, f"try-{case.recipe}", ((), (choice,)), pairs, check=check)
    if done.out or done.broken or done.found is None:
        why = done.out or done.broken
        yield f"| {case.text} | {choice.label} | {predicted.expected:.2f} | {why} | | | no | |"
        return
    yield row(case, choice, predicted.expected, done.found.measured, moved)


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
    rows = []
    for case in CASES:
        if args.only and case.recipe not in args.only:
            continue
        for line in judged(case, home / case.recipe, args.pairs, args.lock):
            print(line, flush=True)
            rows += [line] if line.startswith("|") else []
        load = os.getloadavg()[0]
        print(f"{case.recipe}: load average afterwards {load:.1f}", flush=True)
    table = "\n".join([HEAD, *rows, ""])
    (home / "table.md").write_text(table)
    print(f"\n{table}\n{home / 'table.md'}")


if __name__ == "__main__":
    main()

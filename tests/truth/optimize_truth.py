"""What `perfkit optimize` finds on real runs whose truth is known: five searches, one table each.

    python -m tests.truth.optimize_truth [--only aa] [--out DIR]

aa: five recipes that change nothing, tried on a training of one process; none may be kept.
The others run in two network namespaces joined by a shaped link (root, ip and tc), compute asleep.
good: every recipe that there is, on a training without a bottleneck; none may be kept.
two: every recipe, on a training with a slow loader and no overlap; both must be found, the larger
first. sizes: DDP's buckets where the default ones arrive too late; a size must be found and kept.
bad, on two ranks of this machine: recipes of which one crashes the training, one hangs it,
one makes its ranks diverge and one halves its compute; only the last may be kept. Interrupted, the
same line goes on. Status 1 where a search does not find the truth.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfkit.analyzers.refusal import Refusal
from perfkit.cli import optimizing
from perfkit.cli.trials import Trials
from perfkit.cli.workdir import Place
from perfkit.recipes.catalogue import BY_ID, RECIPES
from perfkit.recipes.ledger import Optimization
from perfkit.recipes.recipe import Application, Numerics, Prediction, Recipe, Situation, Values
from perfkit.recipes.search import Settings
from perfkit.report import optimize_text
from tests.truth.recipes_truth import LARGE

HERE = Path(__file__).parent
ALONE = HERE.parent.parent / "benchmarks" / "statistics_job.py"
GOOD = ("--ddp", "--decode-ms", "0", "--device-ms", "20", "--layers", "8", "--width", "256")
SIZES = (*LARGE, "--device-ms", "80", "--ddp")
TWO = ("--device-ms", "10", "--decode-ms", "15")
PAIR = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    str(HERE / "misbehaving.py"),
)
KEPT = {"two": ["loader", "overlap"], "bad": ["faster"], "sizes": ["ddp-buckets"]}
HOURS = 4 * 3600.0


def promising(name: str, title: str, expected: float, variables: Mapping[str, str]) -> Recipe:
    """Return a recipe that sets variables, and promises much."""

    def applicable(situation: Situation) -> Prediction | Refusal:
        del situation
        return Prediction(
            ceiling=2 * expected,
            expected=expected,
            low=expected,
            high=expected,
            basis="none",
            why="its author says so",
        )

    def environment(values: Values, environ: Mapping[str, str]) -> Mapping[str, str]:
        del values, environ
        return variables

    return Recipe(
        id=name,
        title=title,
        addresses="compute",
        findings=(),
        application=Application.ENVIRONMENT,
        numerics=Numerics.EXACT,
        applicable=applicable,
        refuses=(),
        environment=environment,
    )


def two_ranks(rate: str, *flags: str) -> tuple[str, ...]:
    """Return the training with these flags on two ranks behind links of that rate."""
    bridge = (sys.executable, str(HERE / "bridge.py"), "--ranks", "2", "--rate", rate)
    return (*bridge, "--", sys.executable, str(HERE / "two_bottlenecks.py"), *flags)


def search(
    name: str, command: tuple[str, ...], recipes: Sequence[Recipe], home: Path
) -> Optimization:
    """Search with these recipes, at most for hours."""
    trials = Trials(command=command, place=Place(home=home / name), environ=dict(os.environ))
    settings = Settings(budget_s=HOURS)
    found = optimizing.search(trials, settings, recipes)
    print(f"\n== {name}: {found.command}\n")
    print(optimize_text.render(found, report_path=str(home / name / optimizing.PAGE)))
    return found


def holds(name: str, found: Optimization) -> bool:
    """Tell whether a search found the truth."""
    kept = [label.partition(":")[0] for label in found.stack]
    return found.complete and kept == KEPT.get(name, [])


def main() -> int:
    """Search, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("aa", "good", "two", "sizes", "bad"), action="append")
    parser.add_argument("--out", type=Path, help="where the runs go, and an earlier call goes on")
    args = parser.parse_args()
    home = (args.out or Path(tempfile.mkdtemp(prefix="perfkit-optimize-"))).absolute()
    nothing = tuple(
        promising(f"nothing-{n}", "Change nothing", 1.3, {"NOTHING_READS_THIS": str(n)})
        for n in range(1, 6)
    )
    bad = tuple(
        promising(how, f"Have it {how}", 1.9 - number / 10, {"MISBEHAVE": how})
        for number, how in enumerate(("crash", "hang", "diverge", "faster"))
    )
    cases = {
        "aa": ((sys.executable, str(ALONE)), nothing),
        "good": (two_ranks("10gbit", *GOOD), RECIPES),
        "two": (two_ranks("2gbit", *TWO), RECIPES),
        "sizes": (two_ranks("1gbit", *SIZES), [BY_ID["ddp-buckets"]]),
        "bad": (PAIR, bad),
    }
    wrong = []
    for name in args.only or cases:
        command, recipes = cases[name]
        if not holds(name, search(name, command, recipes, home)):
            wrong.append(name)
    print(
        f"\nLoad average {os.getloadavg()[0]:.1f}. " + (f"Wrong: {wrong}" if wrong else "All hold.")
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

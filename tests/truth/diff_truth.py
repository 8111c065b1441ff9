"""Whether the diff that a recipe writes gains the same without perfkit as the recipe with it.

    python -m tests.truth.diff_truth --of DIR [--pairs 3] [--only overlap]

DIR is where `recipes_truth` left its runs. Each case: the source change is made from what the ranks
of its first trial recorded, applied by `git apply` to a copy of the script, and the copies are run
in pairs on the same network, timed by `stopwatch.py`. No part of perfkit runs in them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.statistics import PairedRatio, paired_t
from perfkit.recipes.activation import parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.source_change import source_change
from perfkit.recipes.statistics import order_of
from perfkit.trace.recipe_log import read_log
from perfkit.trace.run import open_run
from tests.truth.recipes_truth import CASES, HERE, RESULT, Case

STEPS, DISCARD = 45, 12
TOO_LONG_S = 900.0
HEAD = (
    "| recipe | with perfkit, script unchanged | ms | its diff, without perfkit | ms | pairs |\n"
    "|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Scripts:
    """A copy of the script as it is, and one with the diff applied."""

    original: Path
    changed: Path


def change(case: Case, label: str, folder: Path, trial: Path) -> Scripts:
    """Make the diff from what the ranks of a trial recorded, and let git apply it to a copy."""
    run = open_run([trial])
    script = Path(str(run.ranks[0].facts["script"]))
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("original", "changed"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(script.parent, folder / name, ignore=ignore)
    (choice,) = parse(label, BY_ID)
    diff = source_change(choice, read_log(run), script.parent).diff
    if not diff:
        raise SystemExit(f"{case.recipe}: the place in {script} cannot be edited, there is no diff")
    (folder / f"{case.recipe}.patch").write_text(diff)
    apply = ("git", "apply", f"../{case.recipe}.patch")
    outside = {"GIT_CEILING_DIRECTORIES": str(folder)}
    subprocess.run(apply, cwd=folder / "changed", check=True, env=os.environ | outside)
    return Scripts(folder / "original" / script.name, folder / "changed" / script.name)


def step_ms(case: Case, script: Path) -> float:
    """Run a script on its network without perfkit and return its median step (ms)."""
    flags = [f for f in case.flags if f != "1000"]
    flags = [*flags, str(STEPS)] if flags[-1:] == ["--steps"] else [*flags, "--steps", str(STEPS)]
    command = [
        *(sys.executable, str(HERE / "bridge.py"), "--ranks", str(case.ranks)),
        *("--rate", case.rate, "--", sys.executable, str(HERE / "stopwatch.py"), str(DISCARD)),
        *(str(script), *flags),
    ]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PERFKIT_")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, env=environ, stdout=pipe, stderr=pipe) as process:
        try:
            out, told = process.communicate(timeout=TOO_LONG_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # not killed: the bridge takes its namespaces away
            raise
    if process.returncode:
        raise SystemExit(f"{script}: {told[-2000:]}")
    what = "processor_ms " if case.by_processor else "step_ms "
    return float(out.split(what)[1].split()[0])


def measured(case: Case, home: Path, pairs: int) -> str:
    """Measure one case and return its row of the table."""
    known = json.loads((home / RESULT).read_text())
    trial = home / f"try-{case.recipe}-pair1-with"
    scripts = change(case, known["label"], home / "diff", trial)
    base: list[float] = []
    variant: list[float] = []
    for base_first in order_of(f"diff-{case.recipe}", pairs):
        for is_base in (base_first, not base_first):
            script = scripts.original if is_base else scripts.changed
            (base if is_base else variant).append(step_ms(case, script))
    ours, theirs = paired_t(known["base_ms"], known["variant_ms"]), paired_t(base, variant)
    with_it = (shown(ours), from_to(known["base_ms"], known["variant_ms"]))
    cells = (f"`{known['label']}`", *with_it, shown(theirs), from_to(base, variant), str(pairs))
    return f"| {' | '.join(cells)} |"


def shown(found: PairedRatio | Refusal) -> str:
    """Return a ratio with its interval."""
    if isinstance(found, Refusal):
        return str(found)
    return f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]"


def from_to(base: Sequence[float], variant: Sequence[float]) -> str:
    """Return the median steps of both arms."""
    return f"{median(base):.0f} to {median(variant):.0f}"


def main() -> None:
    """Measure the cases that have been measured with perfkit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", type=Path, required=True, help="the runs of recipes_truth")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=[case.recipe for case in CASES], action="append")
    args = parser.parse_args()
    print(HEAD)
    for case in CASES:
        home = args.of.absolute() / case.recipe
        if (args.only and case.recipe not in args.only) or not (home / RESULT).exists():
            continue
        print(measured(case, home, args.pairs), flush=True)


if __name__ == "__main__":
    main()

"""`perfkit optimize`: try recipes on the user's command, keep what is faster for certain."""

import os
import re
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfkit.cli import console, exits, sweep
from perfkit.cli.workdir import AllowWrites, Place, Where, Workdir, offline
from perfkit.errors import UsageError

if TYPE_CHECKING:
    from perfkit.recipes.ledger import Optimization

SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}


class Allow(StrEnum):
    """What recipes may do to the numbers."""

    EXACT = "exact"
    NUMERICS = "numerics"
    ALGORITHM = "algorithm"


def command(
    cmd: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- CMD", help="The training's command line.", show_default=False),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="NAME", help="Try only these.", show_default="all"),
    ] = None,
    allow: Annotated[
        Allow,
        typer.Option(
            help="exact: the same arithmetic. numerics: also other rounding (bf16, TF32). "
            "algorithm: also another algorithm (PowerSGD, batch)."
        ),
    ] = Allow.EXACT,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Time for all trials: 90s, 10m, 1h.")
    ] = "10m",
    workdir: Where = Workdir.SAME,
    allow_writes: AllowWrites = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the trials and results go; an interrupted search goes on there.",
            show_default="a new one in ./perfkit-runs",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print optimize.json instead.")] = False,
) -> None:
    """Find what makes a training faster, without changing it: try, measure, keep or revert.

    Each trial ends after 40 steps. A recipe is kept only if paired runs show it to be faster and
    the losses stay what they were. Example: perfkit optimize -- torchrun --nproc-per-node 2
    train.py
    """
    if not cmd:
        raise UsageError(
            "there is no command to optimize",
            hint="perfkit optimize -- torchrun --nproc-per-node 2 train.py",
        )
    from perfkit.cli import optimizing
    from perfkit.cli.trials import Trials
    from perfkit.profiler.child import check_executable
    from perfkit.recipes.recipe import Numerics
    from perfkit.recipes.search import Settings

    only, budget_s = optimizing.known(recipe or []), sweep.seconds(budget, "--budget")
    check_executable(cmd)
    home = out or default_folder(cmd)
    past = optimizing.past(home)
    settings = Settings(allow=Numerics(allow.value), budget_s=budget_s, only=only, past=past)
    console.say(offline(os.environ))
    place = Place(home=home, copy=workdir is Workdir.COPY, allow_writes=allow_writes)
    trials = Trials(command=tuple(cmd), place=place, environ=dict(os.environ))
    with exits.resumable(lambda: optimizing.interrupted(home)):
        found = optimizing.search(trials, settings)
    show(found, home, as_json=as_json)


def show(found: "Optimization", home: Path, *, as_json: bool) -> None:
    """Print what was found."""
    from perfkit.cli.optimizing import FILE, PAGE
    from perfkit.report import optimize_text

    if as_json:
        console.tell_json(found)
    else:
        console.tell(optimize_text.render(found, report_path=console.shown(home / PAGE)))
    if found.stack:
        recipes = " ".join(f"--recipe {label}" for label in found.stack)
        console.suggest(f"perfkit profile {recipes} -- {found.command}")
    else:
        console.suggest(f"perfkit analyze {console.shown(home / found.diagnosed[0].trial)}")
    console.say(f"every trial and decision: {console.shown(home / FILE)}")


def default_folder(words: Sequence[str]) -> Path:
    """Return a new folder for a search."""
    script = next((word for word in words if word.endswith(".py")), words[0])
    name = re.sub(r"[^A-Za-z0-9_-]", "-", Path(script).stem) or "run"
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Path("perfkit-runs") / f"{now}-optimize-{name}"

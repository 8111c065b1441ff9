"""`perfkit capture RUN`: trace some steps of a training that is already running."""

from pathlib import Path
from typing import Annotated

import typer

from perfkit.cli import console

SCHEMA_VERSION = 1


def command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run that is going on.")
    ],
    steps: Annotated[int, typer.Option(min=1, max=1000, help="How many steps to trace.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was traced as JSON.")] = False,
) -> None:
    """Trace some steps of a training that is already running, the same ones on all ranks.

    The training must have been started by perfkit profile, with or without windows of its own.
    Example: perfkit capture RUN --steps 10
    """
    from perfkit.errors import InputError
    from perfkit.profiler import ordering

    ranks = [folder for folder in ordering.running_ranks(run) if folder.traced]
    if not ranks:
        raise InputError(
            f"{run}: none of the running ranks writes traces", hint="see --trace-ranks of profile"
        )
    window = ordering.order_window(run, steps)
    console.say(
        f"{len(ranks)} ranks will trace the steps {window.first} to {window.last}, "
        f"in about {window.seconds:.0f} s"
    )
    with console.progress("waiting for the window") as show:
        missing = ordering.await_window(
            ranks, window, lambda done: show(f"{done} of {len(ranks)} ranks have traced it")
        )
    if len(missing) == len(ranks):
        raise InputError(
            f"{run}: no rank has traced the steps {window.first} to {window.last}",
            hint="the run may have ended first, or be far slower now: see its steps.jsonl",
        )
    if missing:
        console.say(f"warning: no trace of rank {', '.join(map(str, missing))}")
    if as_json:
        console.tell_json(
            {
                "schema_version": SCHEMA_VERSION,
                "run": str(run.absolute()),
                "first_step": window.first,
                "last_step": window.last,
                "ranks": sorted({folder.rank for folder in ranks} - set(missing)),
                "missing_ranks": missing,
            }
        )
        return
    console.suggest(f"perfkit analyze {console.shown(run)}")

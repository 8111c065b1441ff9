"""`perfkit dump RUN`: what every rank of a running training is doing now."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from perfkit.cli import console

SCHEMA_VERSION = 1


def command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run that is going on.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the stacks and all else as JSON.")
    ] = False,
) -> None:
    """Write every rank's Python stacks, last step and last collective, and show them.

    For a training that hangs: it is not stopped and not changed. Stacks need py-spy and the right
    to trace processes; without them the rest is shown, and why. Example: perfkit
    dump RUN
    """
    from perfkit.profiler.dump import behind, dump, text_of

    with console.progress("asking the ranks"):
        found = dump(run)
    if as_json:
        console.tell_json(
            {
                "schema_version": SCHEMA_VERSION,
                "folder": str(found.folder.absolute()),
                "behind": behind(found.ranks),
                "ranks": found.ranks,
            }
        )
        return
    sys.stdout.write(text_of(found.ranks))
    console.suggest(f"less {console.shown(found.folder)}/dump.txt")

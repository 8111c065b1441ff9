"""`perfkit roofline`: how near every operator of a run comes to what the machine can do."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console

if TYPE_CHECKING:
    from perfkit.roofline.ceilings import Ceilings

CEILINGS_FILE = "ceilings.json"
PAGE_FILE = "roofline.html"


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder, or a Kineto trace or folder.", show_default=False
        ),
    ],
    ceilings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measured ceilings of the run's machine.",
            show_default="ceilings.json in the run folder, else published peaks",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result on stdout as JSON instead.")
    ] = False,
) -> None:
    """Place every operator under its roof and list where most time is lost above it.

    Needs recorded shapes, as perfkit profile records them. Measure the machine's ceilings with
    perfkit ceilings; without, published peaks stand in where the device is known.
    """
    import msgspec

    from perfkit.cli import results
    from perfkit.report import roofline_plot, roofline_text
    from perfkit.roofline.of_run import roofline_of
    from perfkit.trace import run as run_folder

    opened = run_folder.open_run([run])
    measured = _ceilings(ceilings, run)
    load = partial(run_folder.load_rank, cache=run_folder.cache_folder(opened))
    with console.progress("placing operators under their roofs"):
        found = roofline_of(opened, load, measured)
    folder = results.writable(opened.path or results.elsewhere(opened), may_move=True, run=opened)
    page = folder / PAGE_FILE
    results.write(page, roofline_plot.page(found).encode())
    if as_json:
        content = msgspec.json.format(msgspec.json.encode(found), indent=2)
        sys.stdout.buffer.write(content + b"\n")
        return
    print(roofline_text.run(found, width=console.width(sys.stdout)))
    print(f"\nPlots: {console.shown(page)}")
    console.suggest(
        f"perfkit analyze {run}" if measured else "perfkit ceilings, on the machine of the run"
    )


def _ceilings(given: Path | None, run: Path) -> "Ceilings | None":
    from perfkit.roofline import ceilings

    beside = run / CEILINGS_FILE
    if given is not None:
        return ceilings.read(given)
    return ceilings.read(beside) if beside.is_file() else None

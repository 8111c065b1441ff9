"""`perfkit roofline`: how near every operator of a run comes to what the machine can do."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfkit.cli import console
from perfkit.errors import UsageError

if TYPE_CHECKING:
    from perfkit.roofline.ceilings import Ceilings
    from perfkit.roofline.summary import RunRoofline

CEILINGS_FILE = "ceilings.json"
PAGE_FILE = "roofline.html"
_FORMATS = (".html", ".svg", ".png")


def _size(text: str) -> Any:
    return typer.Option(metavar="N", min=1, help=text, show_default="read from the run")


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
    plot: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the plots there too: .html, .svg or .png (may be repeated).",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[int | None, _size("Transformer layers of one rank's part.")] = None,
    heads: Annotated[int | None, _size("Attention heads of one rank's part.")] = None,
    head_dim: Annotated[int | None, _size("Size of an attention head.")] = None,
    sequence: Annotated[int | None, _size("Tokens that attention spans.")] = None,
    parameters: Annotated[int | None, _size("Parameters that one rank computes with.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result on stdout as JSON instead.")
    ] = False,
) -> None:
    """Place every operator under its roof and list where most time is lost above it.

    Needs recorded shapes, as perfkit profile records them. Measure the machine's ceilings with
    perfkit ceilings; without, published peaks stand in where the device is known. The sizes of a
    transformer, for MFU, are read off the recorded shapes where those are plain; --layers and the
    like stand before them. Example: perfkit roofline RUN --ceilings ceilings.json --plot roof.svg
    """
    from perfkit.cli import results
    from perfkit.report import roofline_plot, roofline_text
    from perfkit.roofline.of_run import roofline_of
    from perfkit.roofline.utilization import GivenSizes
    from perfkit.trace import run as run_folder

    for file in plot or ():
        _check_plot(file)
    given = GivenSizes(
        layers=layers, heads=heads, head_size=head_dim, sequence=sequence, parameters=parameters
    )
    with console.progress("opening") as doing:
        opened = run_folder.open_run([run])
        measured = _ceilings(ceilings, run)
        load = partial(run_folder.load_rank, cache=run_folder.cache_folder(opened))
        doing("placing operators under their roofs")
        found = roofline_of(opened, load, measured, given)
    folder = results.writable(opened.path or results.elsewhere(opened), may_move=True, run=opened)
    page = folder / PAGE_FILE
    with console.progress("drawing"):
        results.write(page, roofline_plot.page(found).encode())
        for file in plot or ():
            results.write(file, _plotted(found, file))
    if as_json:
        console.tell_json(found)
        return
    console.tell(roofline_text.run(found, width=console.width(sys.stdout)))
    written = [page, *(plot or ())]
    console.tell(f"\nPlots: {', '.join(console.shown(file) for file in written)}")
    console.suggest(
        f"perfkit analyze {run}" if measured else "perfkit ceilings, on the machine of the run"
    )


def _ceilings(given: Path | None, run: Path) -> "Ceilings | None":
    from perfkit.roofline import ceilings

    beside = run / CEILINGS_FILE
    if given is not None:
        return ceilings.read(given)
    return ceilings.read(beside) if beside.is_file() else None


def _check_plot(file: Path) -> None:
    """Refuse before reading a run what cannot be written after it."""
    from perfkit.report import figure_png

    if file.suffix not in _FORMATS:
        raise UsageError(
            f"--plot {file}: no format is known by that ending",
            hint=f"end it in {', '.join(_FORMATS)}",
        )
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--plot {file}: there is no folder {file.parent}", hint="make it first")
    if file.suffix == ".png":
        figure_png.check()


def _plotted(found: "RunRoofline", file: Path) -> bytes:
    from perfkit.report import roofline_plot

    if file.suffix == ".png":
        return roofline_plot.png(found)
    text = roofline_plot.svg if file.suffix == ".svg" else roofline_plot.page
    return text(found).encode()

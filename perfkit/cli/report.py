"""`perfkit report`: the HTML page of an analysed run."""

from pathlib import Path
from typing import Annotated

import typer

from perfkit.cli import console


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder, or an analysis.json.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page to write.", show_default="report.html in RUN"),
    ] = None,
    light: Annotated[
        bool,
        typer.Option(
            "--light", help="Leave plotly out: charts do not zoom, the page is 2 MB smaller."
        ),
    ] = False,
) -> None:
    """Write the HTML report of an analysed run: one file that opens without a network.

    A run that has no analysis.json yet is analysed first.
    """
    from perfkit.cli import results
    from perfkit.report import html

    analysis = results.recall(run)
    page = out if out is not None else results.home(run) / results.REPORT_FILE
    results.write(page, html.render(analysis, light=light).encode())
    print(console.shown(page))
    console.suggest(f"open {console.shown(page)} in a browser")

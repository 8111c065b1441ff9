"""`perfkit report`: the HTML page of an analysed run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console
from perfkit.errors import InputError

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis

SCHEMA_VERSION = 1


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run folder, the folder of a search, or an analysis.json.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page to write.",
            show_default="report.html in RUN; redacted.html with --redact",
        ),
    ] = None,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Replace hosts, users, paths and arguments by aliases, the same everywhere; also "
            "writes the analysis so, beside the page.",
        ),
    ] = False,
    light: Annotated[
        bool,
        typer.Option(
            "--light", help="Leave plotly out: charts do not zoom, the page is 2 MB smaller."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print which files were written as JSON.")
    ] = False,
) -> None:
    """Write the HTML report of an analysed run: one file that opens without a network.

    A run that has no analysis.json yet is analysed first. What perfkit optimize, scale or faults
    found with the run becomes sections of it. Example: perfkit report RUN --light --out
    page.html
    """
    from perfkit.analyzers import analysis as analysis_of
    from perfkit.cli import beside, results
    from perfkit.report import html

    with console.progress("reading the analysis") as doing:
        run = beside.run_of(run)
        analysis = results.recall(run)
        page = out or results.home(run) / ("redacted.html" if redact else results.REPORT_FILE)
        written = [page]
        if redact:
            analysis = _redacted(run, analysis)
            written.append(page.with_suffix(".json"))
            results.write(written[-1], analysis_of.encode(analysis))
        more = () if redact else beside.sections(results.home(run))
        doing("writing the report")
        called = "" if redact else results.called(results.home(run))
        text = html.render(analysis, light=light, more=more, called=called)
        results.write(page, text.encode())
    if as_json:
        files = [str(file.absolute()) for file in written]
        console.tell_json({"schema_version": SCHEMA_VERSION, "written": files})
        return
    print(console.shown(page))
    console.suggest(f"open {console.shown(page)} in a browser")


def _redacted(path: Path, analysis: "Analysis") -> "Analysis":
    """Return the analysis with aliases; what it must not show is known best from the run itself."""
    from perfkit.report.redacted import redacted
    from perfkit.trace.redaction import Redaction, originals
    from perfkit.trace.run import open_run

    try:
        run = open_run([path if path.is_dir() else path.parent])
    except InputError:  # an analysis without its run
        known = originals([], hosts=analysis.run.hosts, command=analysis.run.command)
    else:
        facts = [record.facts for record in run.ranks] + [node.facts for node in run.nodes]
        known = originals(facts, hosts=analysis.run.hosts, command=analysis.run.command)
    return redacted(analysis, Redaction(known, hidden=True))

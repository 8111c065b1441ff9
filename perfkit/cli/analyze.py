"""`perfkit analyze`: the verdict of a recorded run, or of traces that others recorded."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from perfkit.cli import console


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="A run folder, the node folders of one run, or Kineto traces: files or folders.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where analysis.json and report.html go.",
            show_default="the run folder; for traces a new one in ./perfkit-runs",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print analysis.json on stdout instead of the summary.")
    ] = False,
) -> None:
    """Say what bounds a step, on which rank, with what evidence.

    Reads run folders of `perfkit profile` and any Kineto traces (torch.profiler's .json or
    .json.gz) of CPU and GPU runs, one file a rank. Example: perfkit analyze traces/*.json.gz
    """
    from perfkit.cli import results

    done = results.produce(paths, out)
    if as_json:
        sys.stdout.buffer.write((done.folder / results.ANALYSIS_FILE).read_bytes().rstrip() + b"\n")
        return
    from perfkit.report import text

    print(
        text.render(
            done.analysis,
            width=console.width(sys.stdout),
            color=console.has_color(sys.stdout),
            report_path=console.shown(done.report),
        )
    )

"""`perfkit analyze`: the verdict of a recorded run, or of traces that others recorded."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perfkit.cli import console


class Engine(StrEnum):
    """Where ranks are read."""

    local = "local"
    ray = "ray"


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="A run folder, the node folders of one run, or traces: files, folders, archives, "
            "URLs.",
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
    step_nvtx: Annotated[
        str,
        typer.Option(
            metavar="REGEX",
            help="In traces of other tools, the NVTX ranges (or annotations) that are the steps; "
            "a group that matches digits is the step's number.",
            show_default="ProfilerStep#N, ranges called step N, or the optimizer's steps",
        ),
    ] = "",
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Ranks to read at a time, each in a process of its own.",
            show_default="one a processor",
        ),
    ] = 0,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Where ranks are read: in processes here, or on the Ray cluster at RAY_ADDRESS "
            "(else one that is started here)."
        ),
    ] = Engine.local,
) -> None:
    """Say what bounds a step, on which rank, with what evidence.

    Reads run folders of `perfkit profile`, Kineto traces (torch.profiler's .json or .json.gz) of
    CPU and GPU runs, and Nsight Systems exports (.sqlite). Example: perfkit analyze
    traces/*.json.gz
    """
    from perfkit.cli import results

    on_ray = engine is Engine.ray
    reading = results.Reading(step_pattern=step_nvtx, jobs=jobs, on_ray=on_ray)
    done = results.produce(paths, out, reading)
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
            run_path=done.run,
        )
    )

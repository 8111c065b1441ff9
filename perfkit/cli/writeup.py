"""`perfkit writeup`: the course's lab reports, filled from runs."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from perfkit.cli import console, dashes
from perfkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from perfkit.cli.writeup_measure import Plan
    from perfkit.report.writeup.document import Document
    from perfkit.report.writeup.evidence import Evidence

COMMAND = "perfkit.command"
SCHEMA_VERSION = 1


class Lab(StrEnum):
    """The labs whose reports can be written."""

    lab04 = "lab04"
    lab09 = "lab09"


class Drawn(StrEnum):
    """The kinds of figure files."""

    svg = "svg"
    png = "png"


class AfterDashes(TyperCommand):
    """Keeps what follows -- apart from the runs before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; the command after -- is left alone."""
        own, ctx.meta[COMMAND] = dashes.split(args)
        return super().parse_args(ctx, own)


COMMAND_CLASS = AfterDashes


def command(
    ctx: typer.Context,
    lab: Annotated[Lab, typer.Argument(help="Which lab.", show_default=False)],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="The baseline, then runs with changes. ROLE=RUN says what a run is: base, nocomm, "
            "amp, accum, loader, all for lab04; base, trap, fix for lab09.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write: .md (figures beside it) or .html.",
            show_default="LAB.md",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Run what evidence is missing, with the command after --; resumes."
        ),
    ] = False,
    repeats: Annotated[int, typer.Option(metavar="K", min=1, help="Runs of each variant.")] = 3,
    window: Annotated[
        str, typer.Option(metavar="A:B", help="Steps to profile in every run.")
    ] = "10:19",
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time for one run: 90s, 10m, 1h.")
    ] = "1h",
    scale: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="A result of perfkit scale; may be repeated.", show_default=False
        ),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A result of perfkit faults.", show_default=False),
    ] = None,
    figures: Annotated[
        Drawn, typer.Option(help="What figures beside a .md are written as.")
    ] = Drawn.svg,
    price_per_gpu_hour: Annotated[
        float | None,
        typer.Option(
            metavar="P", min=0, help="Price of a rank for an hour, for costs.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written and what is missing as JSON.")
    ] = False,
) -> None:
    """Write a lab report from runs: tables, figures, and what was measured in words.

    What is missing is a named gap with the command that fills it; --measure fills it. Places for
    your own reasoning are marked. Example: perfkit writeup lab04 --measure --
    torchrun --nproc-per-node 2 train.py
    """
    words: Sequence[str] = ctx.meta[COMMAND]
    target = out or Path(f"{lab.value}.md")
    if target.suffix not in (".md", ".html"):
        raise UsageError(f"--out {target}: neither .md nor .html", hint="--out lab04.md")
    if figures is Drawn.png:
        _check_png(target)
    if measure != bool(words):
        raise UsageError(
            "--measure and a command after -- belong together",
            hint=f"perfkit writeup {lab.value} --measure -- torchrun train.py",
        )
    given = list(runs or [])
    plan = None
    if measure:
        wanted = Wanted(words=words, repeats=repeats, window=window, time_limit=time_limit)
        plan = _measured(lab, target, given, wanted)
        given += plan.runs
    if not given:
        raise UsageError(
            "no run to write about",
            hint=f"perfkit writeup {lab.value} BASE TUNED..., or --measure -- CMD",
        )
    with console.progress("reading the runs") as doing:
        evidence = collect(lab, given, plan, shlex.join(words), price_per_gpu_hour)
        doing("writing")
        document = build(lab, evidence, scale or (), faults)
        files = write(document, target, figures)
    show(lab, document, files, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be run, and how."""

    words: Sequence[str]
    repeats: int
    window: str
    time_limit: str


def _check_png(target: Path) -> None:
    from perfkit.report import figure_png

    if target.suffix == ".html":
        raise UsageError(
            "--figures png: a .html holds its figures, none are written beside it",
            hint="leave --figures out, or write a .md",
        )
    figure_png.check()


def _measured(lab: Lab, target: Path, given: Sequence[str], wanted: Wanted) -> "Plan":
    """Run what is missing beside the report. Raises InputError where the baseline fails."""
    from perfkit.cli import sweep, writeup_arms, writeup_measure
    from perfkit.profiler.experiment import Beginning, Experiment

    home = target.with_suffix("").with_name(f"{target.stem}-runs")
    with console.progress("running") as show:

        def begins(beginning: Beginning) -> None:
            show(f"run {beginning.number} of {beginning.total}: {beginning.trial.name}")

        limits = sweep.limits(None, wanted.window, wanted.time_limit)
        elsewhere = (
            f"move {console.shown(home)} away and all is run anew, or name another report with "
            f"--out, such as --out {console.shown(target.with_stem(f'{target.stem}-2'))}"
        )
        experiment = Experiment(home, limits, on_begin=begins, elsewhere=elsewhere)
        have = frozenset(one.role for one in writeup_arms.load(given)) if given else frozenset()
        try:
            return writeup_measure.measure(
                lab.value, experiment, wanted.words, wanted.repeats, have
            )
        except KeyboardInterrupt:
            console.suggest(f"the same line goes on from here ({console.shown(home)})")
            raise


def collect(
    lab: Lab, given: Sequence[str], plan: "Plan | None", cmd: str, price: float | None = None
) -> "Evidence":
    """Read the runs. Raises InputError."""
    from perfkit.cli import writeup_arms, writeup_measure
    from perfkit.report.writeup.evidence import BASE, Evidence

    loaded = writeup_arms.load(given)
    base = next(one for one in loaded if one.role == BASE)
    arms = writeup_arms.arms(
        loaded,
        guesses=plan.guesses if plan else writeup_arms.kept_guesses(given),
        applied=plan.applied() if plan else writeup_measure.recorded(loaded),
        refused=plan.refused if plan else None,
    )
    machine = writeup_arms.machine_of(base, loaded)
    options = writeup_arms.options_of(base, loaded)
    measure = f"perfkit writeup {lab.value} --measure {options}".rstrip()
    return Evidence(
        machine=machine,
        arms=arms,
        traces=writeup_arms.traces_of(loaded),
        measure=f"{measure} -- {cmd or machine.command or 'CMD'}",
        price_per_rank_hour=price,
    )


def build(lab: Lab, found: "Evidence", scale: Sequence[Path], faults: Path | None) -> "Document":
    """Build the document. Raises InputError where the result of another command is none."""
    from perfkit.report.writeup import lab04, lab09

    line = "perfkit " + shlex.join(sys.argv[1:])
    if lab is Lab.lab04:
        return lab04.build(found, line)
    more = lab09.More(
        scalings=tuple(_scaling(folder) for folder in scale),
        faults=None if faults is None else _faults(faults),
    )
    return lab09.build(found, more, line)


def _scaling(folder: Path) -> Any:
    from perfkit.analyzers.scaling_result import Scaling

    return _document(folder, "scale.json", Scaling, "perfkit scale")


def _faults(folder: Path) -> Any:
    from perfkit.analyzers.faults_result import Faults

    return _document(folder, "faults.json", Faults, "perfkit faults")


def _document(folder: Path, name: str, kind: Any, made_by: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{folder}: no {name} that can be read: {reason}", hint=f"give a result of {made_by}"
        ) from error


def write(document: "Document", target: Path, drawn: Drawn = Drawn.svg) -> list[Path]:
    """Write the document, its figures and its ledger; return the files, the document first."""
    from perfkit.cli import results
    from perfkit.report.writeup import markdown, page

    files = [target]
    if target.suffix == ".html":
        text = page.render(document)
    else:
        folder = target.with_name(f"{target.stem}-figures")
        text = markdown.render(document, folder.name, drawn.value)
        files += _draw(document, folder, drawn)
    results.write(target, text.encode())
    if document.ledger:
        ledger = target.with_name(f"{target.stem}-ledger.json")
        results.write(ledger, json.dumps(document.ledger, indent=1).encode() + b"\n")
        files.append(ledger)
    return files


def show(lab: Lab, document: "Document", files: Sequence[Path], *, as_json: bool) -> None:
    """Say what was written and what is missing."""
    if as_json:
        console.tell_json(
            {
                "schema_version": SCHEMA_VERSION,
                "lab": lab.value,
                "words": document.words,
                "words_of_analysis": document.words_of_analysis,
                "missing": [{"what": gap.what, "command": gap.command} for gap in document.gaps],
                "written": [str(file.absolute()) for file in files],
            }
        )
        return
    own = document.words_of_analysis
    analysis = "" if own is None else f", {own} of them its analysis"
    print(f"Wrote {console.shown(files[0])}: {document.words} words{analysis}.")
    for file in files[1:]:
        if file.suffix == ".json":
            print(f"Wrote {console.shown(file)}.")
    for gap in document.gaps:
        print(f"Missing: {gap.what}")
    if document.gaps:
        console.suggest(document.gaps[0].command)


def _draw(document: "Document", folder: Path, drawn: Drawn) -> list[Path]:
    from perfkit.cli import results
    from perfkit.report import figure_png
    from perfkit.report.writeup.document import Figure

    files = []
    for block in document.blocks:
        if isinstance(block, Figure):
            data = block.svg.encode() if drawn is Drawn.svg else figure_png.render(block.svg)
            files.append(folder / f"{block.name}.{drawn.value}")
            results.write(files[-1], data)
    return files

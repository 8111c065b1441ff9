"""`perfkit profile`: run a training, capture every rank, then say what bounds a step."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perfkit.cli import console, exits
from perfkit.errors import PerfkitError, UsageError

SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}


class Analyze(StrEnum):
    """When the verdict is made."""

    AFTER = "after"
    NEVER = "never"


def command(
    cmd: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- CMD",
            help="The training's command line, as you would type it.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The run folder.", show_default="a new one in ./perfkit-runs"
        ),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A:B",
            help="Trace the steps A to B, both included; may be repeated. The first step of a "
            "training is step 0.",
            show_default="10:19",
        ),
    ] = None,
    no_trace: Annotated[
        bool, typer.Option("--no-trace", help="Record the step lines only, no profiler trace.")
    ] = False,
    trace_ranks: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Trace these ranks only: 0,4-7.", show_default="all"),
    ] = None,
    with_stack: Annotated[
        bool, typer.Option("--with-stack", help="Record Python stacks in the window (costs time).")
    ] = False,
    py_spy: Annotated[
        bool,
        typer.Option("--py-spy", help="Sample every rank's Python stacks around the first window."),
    ] = False,
    on_hang: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=1.0,
            help="Dump every rank's stacks when none has ended a step for so long.",
            show_default="never",
        ),
    ] = None,
    analyze: Annotated[
        Analyze, typer.Option(help="When to make the verdict and the report.")
    ] = Analyze.AFTER,
) -> None:
    """Run a training, capture every rank, and say what bounds a step.

    CMD runs as it would without perfkit: same output, same exit status, same losses. The verdict
    goes to stderr. Example: perfkit profile -- torchrun --nproc-per-node=2 train.py --epochs 3
    """
    if not cmd:
        raise UsageError(
            "profile needs the training's command after --",
            hint="for example: perfkit profile -- torchrun --nproc-per-node=2 train.py",
        )
    from perfkit.profiler import launch

    options = launch.ProfileOptions(
        out=out,
        trace=not no_trace,
        with_stack=with_stack,
        py_spy=py_spy,
        on_hang=on_hang,
        tell=console.say,
        trace_ranks=None if trace_ranks is None else parse_ranks(trace_ranks),
        windows=tuple(parse_window(text) for text in window or ()) or (launch.DEFAULT_WINDOW,),
    )
    if no_trace and (window or trace_ranks or with_stack):
        raise UsageError("--no-trace leaves nothing for --window, --trace-ranks and --with-stack")
    outcome = launch.profile(cmd, options)
    for warning in outcome.warnings:
        console.say(f"warning: {warning}")
    if analyze is Analyze.AFTER:
        conclude(outcome.run)
    else:
        console.suggest(f"perfkit analyze {console.shown(outcome.run)}")
    if outcome.signal is not None:
        exits.end_by_signal(outcome.signal)
    raise typer.Exit(outcome.status or 0)


def conclude(run: Path) -> None:
    """Analyse the run and print the verdict on stderr; whatever fails here is a warning only."""
    try:
        _print_verdict(run)
    except PerfkitError as error:
        console.say(f"no verdict: {error}")
    except KeyboardInterrupt:
        console.say(f"no verdict: interrupted; make it with: perfkit analyze {console.shown(run)}")
    except Exception as error:  # the training's exit status stands, whatever our analysis does
        console.say(f"no verdict: {exits.describe_bug(error)}")


def _print_verdict(run: Path) -> None:
    from perfkit.cli import joining, results
    from perfkit.profiler.run_folder import node_name
    from perfkit.report import text

    if not joining.await_turn(run, node_name()):
        return
    done = results.produce([run], None)
    summary = text.render(
        done.analysis,
        width=console.width(sys.stderr),
        color=console.has_color(sys.stderr),
        report_path=console.shown(done.report),
    )
    print(summary, file=sys.stderr)


def parse_window(text: str) -> tuple[int, int]:
    """Return the first and last step of `A:B`. Raises UsageError."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--window {text} is not A:B", hint="for example --window 10:19")
    if int(first) < 1:
        raise UsageError(
            f"--window {text} begins at step 0, which is never analysed: it warms up",
            hint=f"begin at 1 or later: --window 1:{max(int(last), 1)}",
        )
    if int(last) < int(first):
        raise UsageError(f"--window {text} ends before it begins", hint=f"--window {last}:{first}")
    return int(first), int(last)


def parse_ranks(text: str) -> tuple[int, ...]:
    """Return the ranks of a list such as `0,4-7`, sorted. Raises UsageError."""
    ranks: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UsageError(
                f"--trace-ranks {text}: {part!r} is no rank or range", hint="for example 0,4-7"
            )
        ranks.update(range(int(first), int(last) + 1))
    return tuple(sorted(ranks))

"""`perfkit profile`: run a training, capture every rank, then say what bounds a step."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perfkit.cli import console, exits
from perfkit.errors import PerfkitError, UsageError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9} | {
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_UNITS)})", re.IGNORECASE)
SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}


class Analyze(StrEnum):
    """When the verdict is made."""

    AFTER = "after"
    LIVE = "live"
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
        typer.Option(
            metavar="SPEC",
            help="Which ranks write traces: all, one-per-node, or a list such as 0,4-7. Step lines "
            "come from all ranks.",
            show_default="all up to 64 ranks, then one per node, the first and the last",
        ),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Write at most so much trace per rank (200MB, before it is packed): windows are "
            "shortened to the steps that fit.",
            show_default="no limit",
        ),
    ] = None,
    with_stack: Annotated[
        bool,
        typer.Option(
            "--with-stack",
            help="Record Python stacks and the classes of modules in the window (costs time).",
        ),
    ] = False,
    modules: Annotated[
        bool,
        typer.Option(
            "--modules",
            help="Name the nn.Module around every operator of the window by its place in the "
            "model: the roofline then also sums by module.",
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Record every allocation in the window, and the memory in use after every step.",
        ),
    ] = False,
    nsys: Annotated[
        bool,
        typer.Option(
            "--nsys",
            help="Let Nsight Systems record the window of CUDA ranks, one report a node, instead "
            "of torch.profiler. Needs nsys on PATH.",
        ),
    ] = False,
    py_spy: Annotated[
        bool,
        typer.Option(
            "--py-spy",
            help="Sample the Python stacks of every rank's threads, waiting ones too, around the "
            "first window.",
        ),
    ] = False,
    on_hang: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Dump every rank's stacks when none has ended a step for so long: 120, 120s, 2m.",
            show_default="never",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            min=0,
            max=65535,
            help="Serve metrics for Prometheus on this port, all interfaces, while CMD runs; with "
            "--analyze live also the budget of the analysed window.",
            show_default="none",
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Apply a recipe without touching the script: NAME[:key=value][,NAME]; may be "
            "repeated. perfkit recipes lists them.",
            show_default="none",
        ),
    ] = None,
    analyze: Annotated[
        Analyze,
        typer.Option(
            help="When to make the verdict and the report. live: once the first window has closed "
            "on all ranks, at low priority while the training goes on, and again after it."
        ),
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

    applied = recipes_of(recipe or ())
    _check_together(
        without_trace=no_trace,
        for_traces=bool(
            window or trace_ranks or with_stack or modules or memory or nsys or max_bytes
        )
        or analyze is Analyze.LIVE,
        nsys_alone=not (nsys and (max_bytes or memory or with_stack or len(window or ()) > 1)),
    )
    options = launch.ProfileOptions(
        out=out,
        trace=not no_trace,
        with_stack=with_stack,
        modules=modules,
        memory=memory,
        nsys=nsys,
        max_bytes=None if max_bytes is None else parse_size(max_bytes),
        py_spy=py_spy,
        environment=applied,
        on_hang=None if on_hang is None else parse_patience(on_hang),
        metrics_port=metrics_port,
        live=analyze is Analyze.LIVE,
        tell=console.say,
        trace_ranks=None if trace_ranks is None else parse_ranks(trace_ranks),
        windows=tuple(parse_window(text) for text in window or ()) or (launch.DEFAULT_WINDOW,),
    )
    outcome = launch.profile(cmd, options)
    for warning in outcome.warnings:
        console.say(f"warning: {warning}")
    if applied:
        say_what_applied(outcome.run)
    if analyze is not Analyze.NEVER:
        conclude(outcome.run)
    else:
        console.suggest(f"perfkit analyze {console.shown(outcome.run)}")
    if outcome.signal is not None:
        exits.end_by_signal(outcome.signal)
    raise typer.Exit(outcome.status or 0)


def recipes_of(names: Sequence[str]) -> Mapping[str, str]:
    """Return the variables that apply recipes; {} for none. Raises UsageError."""
    if not names:
        return {}
    from perfkit.recipes.activation import activate, parse
    from perfkit.recipes.catalogue import BY_ID

    choices = [choice for text in names for choice in parse(text, BY_ID)]
    if not choices:
        raise UsageError("--recipe names none", hint="perfkit recipes lists them")
    activation = activate(choices, os.environ)
    for name, refusal in activation.refused.items():
        console.say(f"recipe {name} is not applied: {refusal}")
    return activation.environment


def say_what_applied(run: Path) -> None:
    """Tell what the recipes changed in the ranks, and which left them as they were."""
    from perfkit.trace import run as run_folder
    from perfkit.trace.recipe_log import read_log

    try:
        log = read_log(run_folder.open_run([run]))
    except PerfkitError:
        return  # no rank recorded anything: the verdict says so
    for text in dict.fromkeys(f"{a.recipe}: {a.setting} {a.old} -> {a.new}" for a in log.applied):
        console.say(f"recipe {text}")
    for name in dict.fromkeys(r.recipe for r in log.refused):
        console.say(f"recipe {name} is not applied: {'; '.join(log.reasons(name))}")


def _check_together(*, without_trace: bool, for_traces: bool, nsys_alone: bool) -> None:
    """Raise UsageError for options of which one leaves the other nothing to do."""
    if without_trace and for_traces:
        raise UsageError(
            "--no-trace leaves nothing for --window, --trace-ranks, --max-bytes, --with-stack,"
            " --modules, --memory, --nsys and --analyze live"
        )
    if not nsys_alone:
        raise UsageError(
            "--nsys records one window and none of --max-bytes, --memory and --with-stack"
        )


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
        run_path=done.run,
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


def parse_ranks(text: str) -> tuple[int, ...] | str:
    """Return `all`, `one-per-node`, or the ranks of a list such as `0,4-7`, sorted.

    Raises UsageError.
    """
    if text in {"all", "one-per-node"}:
        return text
    ranks: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UsageError(
                f"--trace-ranks {text}: {part!r} is no rank or range",
                hint="for example 0,4-7, or all, or one-per-node",
            )
        ranks.update(range(int(first), int(last) + 1))
    return tuple(sorted(ranks))


def parse_size(text: str) -> int:
    """Return the bytes of `200MB`, `1.5GiB` or `4096`. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _UNITS[match[2].lower()] if match else 0
    if match is None or size < 1:
        raise UsageError(f"--max-bytes {text} is no size", hint="for example --max-bytes 200MB")
    return int(size)


def parse_patience(text: str) -> float:
    """Return the seconds of `120`, `120s` or `2m`, a second at least. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh]?)", text.strip())
    seconds = float(match[1]) * {"m": 60.0, "h": 3600.0}.get(match[2], 1.0) if match else 0.0
    if seconds < 1.0:
        raise UsageError(
            f"--on-hang {text} is no time of a second or more", hint="for example --on-hang 120s"
        )
    return seconds

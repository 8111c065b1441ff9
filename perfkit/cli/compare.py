"""`perfkit compare`: what changed between runs, and a gate that knows noise."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from perfkit.cli import console
from perfkit.errors import GateError, InputError, UsageError

if TYPE_CHECKING:
    from perfkit.analyzers.comparison import Comparison
    from perfkit.analyzers.result import Analysis


class Format(StrEnum):
    """How the comparison is printed."""

    terminal = "terminal"
    github = "github"


class ManyRuns(TyperCommand):
    """Takes several runs after one --base or --new, as the shell expands `--base runs/a*`."""

    MANY = ("--base", "--new")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its runs."""
        return super().parse_args(ctx, repeated(args, self.MANY))


COMMAND_CLASS = ManyRuns


def repeated(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Write `--base A B` as `--base A --base B`."""
    spread: list[str] = []
    current = ""
    fresh = False  # the option itself has just been written
    for arg in args:
        if arg.startswith("-"):
            current = arg if arg in options else ""
            fresh = bool(current)
            spread.append(arg)
            continue
        spread += [arg] if fresh or not current else [current, arg]
        fresh = False
    return spread


def command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BASE NEW]",
            help="Two runs: run folders, or their analysis.json.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN...", help="Runs before the change.", show_default=False),
    ] = None,
    new: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN...", help="Runs after the change.", show_default=False),
    ] = None,
    max_slowdown: Annotated[
        str | None,
        typer.Option(
            metavar="X%", help="End with status 1 if the step is slower by more than this for sure."
        ),
    ] = None,
    single_run_sd: Annotated[
        str | None,
        typer.Option(
            metavar="X%",
            help="How much the step time varies from run to run (standard deviation), for one "
            "run a side.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How much runs of a program differ by themselves: several runs on a side are "
            "added to it, one run a side is held against it.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as JSON instead.")
    ] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="github: Markdown for a job summary or a comment.")
    ] = Format.terminal,
) -> None:
    """Say what changed between runs, by class of time, operator and rank, and whether it is noise.

    Only whole runs count as repetitions, never the steps of one: give several with
    --base RUN... --new RUN... to learn more than `cannot tell: one run each`.
    Example: perfkit compare --base a1 a2 a3 --new b1 b2 b3 --max-slowdown 3%
    """
    from perfkit.analyzers import compare
    from perfkit.analyzers.refusal import Refusal
    from perfkit.cli import compare_calibration

    before, after = sides(runs or [], base or [], new or [])
    allowed = share(max_slowdown, "--max-slowdown")
    spread = share(single_run_sd, "--single-run-sd")
    with console.progress("reading the runs") as doing:
        arms = recalled(before), recalled(after)
        known = compare_calibration.read(calibration) if calibration else ()
        doing("comparing")
        found = compare.compare(*arms, max_slowdown=allowed, single_run_sd=spread, calibrated=known)
    if isinstance(found, Refusal):
        raise InputError(found.reason, hint=found.remedy)
    if calibration is not None:
        compare_calibration.add(calibration, arms, known)
    show(found, as_json=as_json, format_=format_)
    if found.gate is not None and found.gate.outcome == "failed":
        raise GateError(
            f"the {found.gate.measure} is slower by at least {found.gate.lower_limit:.1%}, "
            f"{found.gate.max_slowdown:.1%} is allowed"
        )
    if found.verdict == "cannot_tell":
        console.suggest("perfkit compare --base RUN... --new RUN... with several runs a side")
    else:
        console.suggest(f"perfkit report {console.shown(after[0])}")


def sides(
    runs: Sequence[Path], base: Sequence[Path], new: Sequence[Path]
) -> tuple[list[Path], list[Path]]:
    """Return the runs of both sides. Raises UsageError."""
    if runs and (base or new):
        raise UsageError("give either BASE NEW or --base RUN... --new RUN...")
    if runs:
        if len(runs) != 2:
            raise UsageError(
                f"{len(runs)} given, two runs are compared: BASE NEW",
                hint="more go behind --base and --new",
            )
        return [runs[0]], [runs[1]]
    if not base or not new:
        raise UsageError("two sides are compared", hint="perfkit compare BASE NEW")
    for side in (base, new):
        if len({path.resolve() for path in side}) < len(side):
            raise UsageError("a run is named twice on one side", hint="it would count as two")
    return list(base), list(new)


def share(text: str | None, option: str) -> float | None:
    """Read `3%` or `0.03`. Raises UsageError."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 10.0:
        raise UsageError(f"{option} {text}: not a share", hint="write 3% or 0.03")
    return value


def recalled(paths: Sequence[Path]) -> "list[Analysis]":
    """Return the analyses of one side. Raises UsageError if two of them are of the same run."""
    from perfkit.cli import results

    found = [results.recall(path) for path in paths]
    launched = [a.run.run_id for a in found if a.run.launcher]  # foreign traces have no id
    if len(set(launched)) < len(launched):
        raise UsageError("a run is given twice on one side", hint="it would count as two")
    return found


def show(found: "Comparison", *, as_json: bool, format_: Format) -> None:
    """Print the comparison on stdout."""
    if as_json:
        console.tell_json(found)
        return
    from perfkit.report import comparison_text

    if format_ is Format.github:
        print(comparison_text.github(found))
    else:
        console.tell(comparison_text.terminal(found))

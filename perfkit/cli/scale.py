"""`perfkit scale`: how a training scales over ranks, and why it loses efficiency."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from perfkit.cli import console, dashes, sweep
from perfkit.cli.compare import repeated
from perfkit.cli.workdir import AllowWrites, Place, Where, Workdir
from perfkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from perfkit.analyzers.scaling_result import Scaling

SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}


class Mode(StrEnum):
    """What a sweep keeps."""

    STRONG = "strong"
    WEAK = "weak"


class ManyRuns(TyperCommand):
    """Takes several runs after one --from, as the shell expands `--from runs/*`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its runs; the command after -- is left alone."""
        own, command = dashes.split(args)
        behind = ["--", *command] if command else []
        return super().parse_args(ctx, repeated(own, ("--from",)) + behind)


COMMAND_CLASS = ManyRuns


def command(
    cmd: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- CMD",
            help="The training's command line, with {ranks} and {batch} in their places.",
            show_default=False,
        ),
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Numbers of ranks.", show_default=False)
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="strong: --batch is the global batch, {batch} is it over the ranks. weak: {batch} "
            "is --batch on every rank. What the runs really did is checked.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="B", min=1, help="Samples.", show_default=False)
    ] = None,
    repeats: Annotated[
        int, typer.Option(metavar="K", min=1, help="Runs of each point, interleaved.")
    ] = 3,
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="RUN...", help="Runs made elsewhere.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the runs and results go; an interrupted sweep goes on there.",
            show_default="a new one in ./perfkit-runs",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="End every run after N steps.", show_default=False),
    ] = None,
    window: Annotated[
        str, typer.Option(metavar="A:B", help="Steps to profile in every run.")
    ] = "10:19",
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time for one run: 90s, 10m, 1h.")
    ] = "1h",
    predict: Annotated[
        str | None,
        typer.Option(
            metavar="8,16", help="Numbers of ranks to predict.", show_default="twice to 8 times"
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="BW", help="Predict for a network of this bandwidth a rank, such as 50GB/s."
        ),
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Its latency for one step of a ring, such as 5us."),
    ] = None,
    use_oversubscribed: Annotated[
        bool,
        typer.Option(
            "--use-oversubscribed", help="Fit points with more ranks than cores all the same."
        ),
    ] = False,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(metavar="P", min=0, help="Price of a rank for an hour.")
    ] = None,
    samples: Annotated[
        float | None,
        typer.Option(metavar="N", min=1, help="Time and cost of N samples, such as an epoch."),
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(metavar="N", min=1, help="Time and cost of N tokens.")
    ] = None,
    workdir: Where = Workdir.SAME,
    allow_writes: AllowWrites = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print scale.json instead.")] = False,
) -> None:
    """Run a training on several numbers of ranks, and say where the efficiency goes.

    Or judge runs that were made elsewhere: perfkit scale --from RUN1 RUN2 ...
    Example: perfkit scale --ranks 1,2,4 --mode strong --batch 64 --
    torchrun --nproc-per-node {ranks} train.py --batch-size {batch}
    """
    from perfkit.analyzers.scaling import Question

    if samples is not None and tokens is not None:
        raise UsageError("give --samples or --tokens, not both")
    if alpha is not None and network is None:
        raise UsageError("--alpha belongs to --network", hint="--network 50GB/s --alpha 5us")
    question = Question(
        asked_mode=mode.value if mode is not None else "",
        predict=() if predict is None else sweep.counts(predict, "--predict"),
        use_oversubscribed=use_oversubscribed,
        bandwidth_byte_per_s=None if network is None else sweep.bandwidth(network),
        alpha_s=0.0 if alpha is None else sweep.seconds(alpha, "--alpha"),
        price_per_gpu_hour=price_per_gpu_hour,
        samples=samples,
        tokens=tokens,
    )
    if from_:
        if cmd or ranks is not None or batch is not None:
            raise UsageError("--from judges runs that exist: no --ranks, --batch or command")
        folders, home = list(from_), out or sweep.default_folder("scale")
    else:
        plan = sweep.plan(cmd or [], ranks, mode and mode.value, batch, repeats)
        limits = sweep.limits(steps, window, time_limit)
        home = out or sweep.default_folder(sweep.script_name(plan))
        place = Place(home=home, copy=workdir is Workdir.COPY, allow_writes=allow_writes)
        folders = sweep.run(plan, limits, place)
    show(judge(folders, question), home, as_json=as_json)


def judge(folders: Sequence[Path], question: Any) -> "Scaling":
    """Analyse every run and join them to a series. Raises InputError."""
    from perfkit.analyzers.refusal import Refusal
    from perfkit.analyzers.scaling import scale

    with console.progress("reading the runs"):
        measured, traffic = sweep.read(folders)
    found = scale(measured, question, traffic)
    if isinstance(found, Refusal):
        raise InputError(found.reason, hint=found.remedy)
    return found


def show(found: "Scaling", home: Path, *, as_json: bool) -> None:
    """Write scale.json, scale.html and scale.svg, and print what they say."""
    import msgspec

    from perfkit.cli import results
    from perfkit.report import scaling_page, scaling_text

    document = msgspec.json.encode(found)
    with console.progress("writing the report"):
        results.write(home / "scale.json", msgspec.json.format(document, indent=1) + b"\n")
        results.write(home / "scale.html", scaling_page.render(found).encode())
        results.write(home / "scale.svg", scaling_page.drawing(found).encode())
    if as_json:
        console.tell_json(found)
    else:
        console.tell(scaling_text.render(found, report_path=console.shown(home / "scale.html")))
    widest = found.points[-1].runs[0]
    console.suggest(f"perfkit whatif {widest} --search")

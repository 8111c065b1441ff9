"""`perfkit whatif`: predict a change before making it, from a run that was captured."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfkit import units
from perfkit.cli import console, whatif_calibration
from perfkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from perfkit.analyzers.whatif import Answer, Change, Setting

SCHEMA_VERSION = 1
LEAST_SHARE = 0.005
"""Classes that stay below this share of the step are shown together."""
NO_GAIN = 1.01
"""Speed-ups below this are not worth trying."""


def command(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run folder with a trace of at least two steps on every rank, or Kineto traces.",
            show_default=False,
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(metavar="xK", help="K times the network bandwidth, such as x2 or x0.5."),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(metavar="xK", help="Gradients in 1/K of the bytes.")
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="The same work per rank on N ranks."),
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Communication hides behind compute.")
    ] = False,
    no_stragglers: Annotated[
        bool, typer.Option("--no-stragglers", help="Every rank does the mean work (OSDI'25 rule).")
    ] = False,
    no_input_stall: Annotated[
        bool, typer.Option("--no-input-stall", help="Batches are always ready.")
    ] = False,
    async_checkpoint: Annotated[
        bool, typer.Option("--async-checkpoint", help="Checkpoints cost the step nothing.")
    ] = False,
    no_launch: Annotated[
        bool, typer.Option("--no-launch", help="Launches cost nothing (CUDA graph). GPU runs.")
    ] = False,
    no_host_syncs: Annotated[
        bool, typer.Option("--no-host-syncs", help="The host never waits for the GPU.")
    ] = False,
    compute: Annotated[
        str | None, typer.Option(metavar="xK", help="All computation K times as fast.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another GPU, such as 'H200'. GPU runs.")
    ] = None,
    amp: Annotated[
        str | None, typer.Option(metavar="bf16", help="Matrix kernels in bf16. GPU runs.")
    ] = None,
    fuse: Annotated[
        bool, typer.Option("--fuse", help="Elementwise kernels in a row become one. GPU runs.")
    ] = False,
    bucket_mb: Annotated[
        float | None, typer.Option(metavar="MIB", help="DDP gradient buckets of this size.")
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Gradients exchanged every N micro-steps."),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Gradient checkpointing of the whole model.")
    ] = False,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Another pipeline schedule: naive, gpipe, 1f1b, interleaved:2."
        ),
    ] = None,
    micro_batches: Annotated[
        int | None, typer.Option(metavar="M", min=1, help="The pipeline's batch in M parts.")
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search", help="Rank single changes and pairs; the default without any."),
    ] = False,
    after: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="The run after the change: compare, and remember."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Predictions compared so far. Default: perfkit/whatif.jsonl in the state folder.",
        ),
    ] = None,
    step_nvtx: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="The ranges that are steps, as in perfkit analyze."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Predict the step under one or several changes, by replaying the captured steps.

    Several options together are one combined change. The unchanged replay must reproduce the
    measured step within 2 %, else nothing is predicted and the unexplained part is named.
    Examples: perfkit whatif RUN --network x2 --no-stragglers; perfkit whatif RUN --search
    """
    from perfkit.analyzers import whatif_changes as catalogue
    from perfkit.analyzers.whatif_accumulation import accumulation
    from perfkit.analyzers.whatif_fusion import fused_elementwise
    from perfkit.analyzers.whatif_recompute import recomputation

    valued: tuple[tuple[Any, Callable[[Any], Change]], ...] = (
        (network, lambda text: catalogue.network(factor(text, "--network"))),
        (compression, lambda text: catalogue.compression(factor(text, "--compression"))),
        (ranks, catalogue.more_ranks),
        (compute, lambda text: catalogue.faster_compute(factor(text, "--compute"))),
        (amp, half_precision),
        (gpu, another_gpu),
        (bucket_mb, buckets),
        (accumulate, accumulation),
    )
    switched = (
        (overlap, catalogue.perfect_overlap),
        (no_stragglers, catalogue.no_stragglers),
        (no_input_stall, catalogue.no_input_stall),
        (async_checkpoint, catalogue.async_checkpoint),
        (no_launch, catalogue.no_launch_overhead),
        (no_host_syncs, catalogue.no_host_syncs),
        (recompute, recomputation),
        (fuse, fused_elementwise),
    )
    changes = [make(value) for value, make in valued if value is not None]
    changes += [make() for wanted, make in switched if wanted]
    if schedule is not None or micro_batches is not None:
        changes.append(pipeline(path, schedule, micro_batches))
    if search and changes:
        raise UsageError("--search tries all changes", hint="leave the other changes out")
    if after is not None and not changes:
        raise UsageError("--after compares one prediction", hint="name the change that was made")
    file = calibration or whatif_calibration.default_file()
    setting = replace(_setting(path, step_nvtx), calibration=whatif_calibration.read(file))
    if changes:
        measured_ms = None
        if after is not None:
            measured_ms = _setting(after, step_nvtx).graph.step_ns / 1e6 / (accumulate or 1)
        _answer(setting, changes, file, measured_ms, as_json=as_json)
        then = f"{console.shown(after or path)} --search"
    else:
        best = _search(setting, as_json=as_json)
        then = f"{console.shown(path)} {' '.join(best)}"
    if not as_json:
        console.suggest(f"perfkit whatif {then}")


def factor(text: str, option: str) -> float:
    """Read `x2`, `2` or `x0.5`. Raises UsageError."""
    try:
        value = float(text.removeprefix("x"))
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UsageError(f"{option} {text}: not a factor", hint="write x2 or x0.5")
    return value


def half_precision(kind: str) -> "Change":
    """Return what --amp asks for. Raises UsageError."""
    from perfkit.analyzers import whatif_precision

    if kind != "bf16":
        raise UsageError(f"--amp {kind}: only bf16 can be predicted")
    return whatif_precision.half_precision()


def another_gpu(text: str) -> "Change":
    """Return what --gpu asks for. Raises UsageError."""
    from perfkit.analyzers.whatif_device import other_gpu
    from perfkit.roofline.hardware import all_hardware

    fitting = [h for h in all_hardware() if text.lower() in h.name.lower()]
    exact = [h for h in fitting if text.lower() == h.name.lower()]
    if len(exact or fitting) == 1:
        return other_gpu((exact or fitting)[0])
    names = ", ".join(h.name for h in fitting or all_hardware())
    raise UsageError(f"--gpu {text}: name one of {names}")


def pipeline(path: Path, schedule: str | None, micro_batches: int | None) -> "Change":
    """Return what --schedule and --micro-batches ask for. Raises UsageError."""
    from perfkit.analyzers.analysis import analyze
    from perfkit.analyzers.whatif_pipeline import KNOWN, pipeline_of
    from perfkit.trace import run as run_folder

    name, _, parts = (schedule or "").partition(":")
    if name.startswith("zb") or "zero" in name:
        raise UsageError(
            f"--schedule {schedule}: a capture does not tell gradients of weights from those of "
            "inputs, which zero-bubble schedules take apart",
            hint=f"name one of {', '.join(KNOWN)}",
        )
    if (schedule is not None and name not in KNOWN) or (parts and not parts.isdigit()):
        raise UsageError(f"--schedule {schedule}: name one of {', '.join(KNOWN)}")
    with console.progress("looking for the pipeline"):
        run = run_folder.open_run([path])
        facts = analyze(run, partial(run_folder.load_rank, cache=run_folder.cache_folder(run)))
    return pipeline_of(
        facts.pipeline,
        schedule=name or None,
        micro_batches=micro_batches,
        chunks=int(parts) if parts else None,
    )


def buckets(bucket_mb: float) -> "Change":
    """Return what --bucket-mb asks for. Raises UsageError."""
    from perfkit.analyzers.whatif_buckets import buckets_of

    if not bucket_mb > 0:
        raise UsageError("--bucket-mb needs a positive size")
    return buckets_of(bucket_mb)


def _answer(
    setting: "Setting",
    changes: "Sequence[Change]",
    file: Path,
    measured_ms: float | None,
    *,
    as_json: bool,
) -> None:
    from perfkit.analyzers import whatif
    from perfkit.analyzers.refusal import Refusal

    with console.progress("replaying"):
        answer = whatif.ask(setting, changes)
    if isinstance(answer, Refusal):
        raise InputError(answer.reason, hint=answer.remedy)
    if measured_ms is not None:
        whatif_calibration.add(file, answer, measured_ms)
    if as_json:
        console.tell_json({**document(setting, [answer]), "measured_ms": measured_ms})
        return
    lines = combined(setting, answer)
    if measured_ms is not None:
        lines += whatif_calibration.measured(answer, measured_ms, file)
    console.tell("\n".join(lines))


def _search(setting: "Setting", *, as_json: bool) -> tuple[str, ...]:
    """Print the ranking; return the options of the best change."""
    from perfkit.analyzers import whatif, whatif_changes

    with console.progress("replaying"):
        answers = whatif.search(setting, whatif_changes.everything())
    if as_json:
        console.tell_json(document(setting, answers))
    else:
        console.tell("\n".join(ranking(setting, answers)))
    return answers[0].options if answers else ("--search",)


def _setting(path: Path, step_nvtx: str | None = None) -> "Setting":
    from perfkit.analyzers import whatif
    from perfkit.analyzers.graph import build_graph
    from perfkit.analyzers.refusal import Refusal
    from perfkit.analyzers.verdict import seed_of
    from perfkit.trace import run as run_folder

    with console.progress("opening") as doing:
        run = run_folder.open_run([path], step_pattern=step_nvtx or "")
        load = partial(run_folder.load_rank, cache=run_folder.cache_folder(run))
        doing("building the replay graph")
        graph = build_graph(run, load)
        if isinstance(graph, Refusal):
            raise InputError(f"{console.shown(path)}: {graph.reason}", hint=graph.remedy)
        doing("fitting the network")
        return whatif.baseline(graph, whatif.fit_network(graph, seed=seed_of(run.run_id)))


def document(setting: "Setting", answers: "Sequence[Answer]") -> dict[str, Any]:
    """Return what --json prints."""
    graph = setting.graph
    return {
        "schema_version": SCHEMA_VERSION,
        "steps": graph.steps,
        "ranks": graph.ranks,
        "step_ms": graph.step_ns / 1e6,
        "replay_error": graph.replay_error,
        "network": setting.network,
        "answers": answers,
    }


def _head(setting: "Setting") -> list[str]:
    graph = setting.graph
    steps = f"steps {graph.steps[0]} to {graph.steps[-1]}"
    many = "s" * (len(graph.ranks) != 1)
    return [
        f"Measured step {units.nanoseconds(graph.step_ns)} ({steps}, profiled, "
        f"{len(graph.ranks)} rank{many}); unchanged replay {units.change(graph.replay_error)} off.",
        "",
    ]


def combined(setting: "Setting", answer: "Answer") -> list[str]:
    """Return the lines of one answer."""
    lines = [
        *_head(setting),
        f"With {' and '.join(answer.changes)}:",
        f"  step           {units.milliseconds(answer.predicted_ms)}  "
        f"({units.milliseconds(answer.low_ms)} to {units.milliseconds(answer.high_ms)})",
        f"  speed-up       {units.ratio(answer.speed_up)}",
        f"  then bound by  {_words(answer.next_bottleneck or 'nothing recorded')}",
        "",
        "What the step waits for (its critical path), before and after:",
        *_budget(answer),
        "",
        "Assumed:",
    ]
    lines += [f"  - {text}" for text in answer.assumptions]
    return [*lines, "", whatif_calibration.trust(answer.expected)]


def ranking(setting: "Setting", answers: "Sequence[Answer]") -> list[str]:
    """Return the lines of a search: what is worth trying, and what would gain nothing."""
    worth = [a for a in answers if a.speed_up >= NO_GAIN]
    idle = [a for a in answers if a.speed_up < NO_GAIN and len(a.changes) == 1]
    lines = _head(setting)
    if worth:
        lines.append(f"{'Worth trying':44} {'step':>9} {'speed-up':>9}  then bound by")
    for answer in worth:
        lines.append(
            f"  {' + '.join(answer.changes):42} {units.milliseconds(answer.predicted_ms):>9} "
            f"{units.ratio(answer.speed_up):>9}  {_words(answer.next_bottleneck or '')}"
        )
    if idle:
        names = ", ".join(a.changes[0] for a in idle)
        lines += ["", f"Would gain less than 1%, or lose: {names}."]
    recipes = dict.fromkeys(recipe for answer in worth for recipe in answer.recipes)
    if recipes:
        lines += ["", f"How to (perfkit recipes NAME): {', '.join(recipes)}."]
    return [*lines, "", whatif_calibration.overall(setting.calibration)]


def _budget(answer: "Answer") -> list[str]:
    """Return a line for each class of the critical path; both columns sum to their step."""
    before, after = answer.shares_before, answer.shares_after
    kinds = list(dict.fromkeys((*before, *after)))
    rows = [
        (_words(kind), answer.step_ms * before.get(kind, 0.0), answer.predicted_ms * share)
        for kind in kinds
        for share in (after.get(kind, 0.0),)
    ]
    lines = [
        f"  {kind:16} {units.milliseconds(was):>10} -> {units.milliseconds(then):>10}"
        for kind, was, then in rows
        if max(was, then) >= LEAST_SHARE * answer.step_ms
    ]
    small = [row for row in rows if max(row[1:]) < LEAST_SHARE * answer.step_ms]
    if small:
        was, then = sum(row[1] for row in small), sum(row[2] for row in small)
        lines.append(
            f"  {'the rest':16} {units.milliseconds(was):>10} -> {units.milliseconds(then):>10}"
        )
    return lines


def _words(kind: str) -> str:
    return kind.replace("_", " ")

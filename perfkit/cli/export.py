"""`perfkit export`: a run for other tools, all ranks on one clock."""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console
from perfkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from perfkit.trace.model import RankRecord, RankTrace, Run
    from perfkit.trace.redaction import Redaction

    Load = Callable[[RankRecord], RankTrace]


class Format(StrEnum):
    """What is written."""

    perfetto = "perfetto"
    parquet = "parquet"
    csv = "csv"
    speedscope = "speedscope"
    tensorboard = "tensorboard"


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="A run folder, or traces: files, folders, archives, URLs.",
            show_default=False,
        ),
    ],
    format: Annotated[
        Format,
        typer.Option(
            help="perfetto: one trace for ui.perfetto.dev, a process per rank. parquet, csv: "
            "tables of events, steps and collectives. speedscope: the stacks that --py-spy took. "
            "tensorboard: step times, throughput and telemetry as scalars."
        ),
    ] = Format.perfetto,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The file (perfetto, packed if it ends in .gz; speedscope) or folder to write.",
            show_default="export/ in the run folder; for traces in ./perfkit-runs",
        ),
    ] = None,
    redact: Annotated[
        bool,
        typer.Option("--redact", help="Replace hosts, users, paths and arguments by aliases."),
    ] = False,
) -> None:
    """Write a run for other tools, with the clocks of all ranks aligned.

    Examples: perfkit export RUN --format perfetto; perfkit export RUN --format parquet --out
    tables; perfkit export RUN --format tensorboard
    """
    from perfkit.trace import run as run_folder
    from perfkit.trace.redaction import Redaction, originals

    run = run_folder.open_run(paths)
    target = out or _default_place(run, format)
    facts = [record.facts for record in run.ranks] + [node.facts for node in run.nodes]
    redaction = Redaction(originals(facts), hidden=redact)
    try:
        if format is Format.speedscope:
            _write_stacks(run, redaction, target)
        elif format is Format.tensorboard:
            _write_scalars(run, redaction, target)
        else:
            _write_aligned(run, redaction, target, format)
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror or error}",
            hint="name another place with --out",
        ) from error
    print(console.shown(target))
    if format in NEXT:
        console.suggest(NEXT[format].format(console.shown(target)))


NEXT = {
    Format.perfetto: "open it at ui.perfetto.dev",
    Format.speedscope: "open it at www.speedscope.app",
    Format.tensorboard: "tensorboard --logdir {}",
}


def _write_aligned(run: "Run", redaction: "Redaction", target: Path, format: Format) -> None:
    from perfkit.analyzers.alignment import align_ranks
    from perfkit.trace import run as run_folder

    load = partial(run_folder.load_rank, cache=run_folder.cache_folder(run))
    with console.progress("aligning clocks"):
        known = align_ranks(run, load)
    offsets = {rank: offset or 0 for rank, offset in known.items()}
    with console.progress("writing"):
        if format is Format.perfetto:
            _write_perfetto(run, load, offsets, redaction, target)
        else:
            _write_tables(run, load, offsets, redaction, target, format)
    unaligned = sorted(rank for rank, offset in known.items() if offset is None)
    if unaligned and len(known) > 1:
        console.say(
            f"the clocks of ranks {_some(unaligned)} could not be aligned: times as recorded"
        )


def _write_stacks(run: "Run", redaction: "Redaction", target: Path) -> None:
    from perfkit.trace.export_speedscope import speedscope, stack_files

    files = stack_files(run.path) if run.path is not None else []
    if not files:
        raise InputError(
            "the run holds no Python stacks", hint="perfkit profile --py-spy -- CMD takes them"
        )
    with console.progress("writing"):
        _write_whole(target, iter([speedscope(files, f"perfkit {run.run_id}", redaction)]))


def _write_scalars(run: "Run", redaction: "Redaction", target: Path) -> None:
    from perfkit.trace.export_tensorboard import event_files

    written = 0
    with console.progress("writing"):
        for place, content in event_files(run, redaction):
            _write_whole(target / place, content)
            written += 1
    if not written:
        raise InputError(
            "the run holds no step lines and no telemetry",
            hint="perfkit profile records them; a lone trace does not",
        )


def _some(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (", ..." if len(ranks) > 8 else "")


def _default_place(run: "Run", format: Format) -> Path:
    from perfkit.cli import results

    home = results.writable(run.path or results.elsewhere(run), may_move=True, run=run)
    names = {
        Format.perfetto: "perfetto.json.gz",
        Format.speedscope: "stacks.speedscope.json",
    }
    name = names.get(format, format.value)
    return home / "export" / name


def _write_perfetto(
    run: "Run",
    load: "Load",
    offsets: Mapping[int, int],
    redaction: "Redaction",
    target: Path,
) -> None:
    from perfkit.trace.export_perfetto import Axis, origin_of, perfetto
    from perfkit.version import __version__

    starts = {}
    for record in run.ranks:
        events = load(record).events
        if len(events):
            starts[record.rank] = int(events.start_ns[0])
    axis = Axis(offsets_ns=offsets, origin_ns=origin_of(starts, offsets))
    about = {"perfkit": __version__, "ranks": len(run.ranks), "world_size": run.world_size}
    text = perfetto(map(load, run.ranks), axis, about, redaction)
    _write_whole(target, text)


def _write_whole(target: Path, text: Iterator[bytes]) -> None:
    """Write a file under a temporary name and rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if target.suffix == ".gz":
                with gzip.GzipFile("", "wb", 5, file, mtime=0) as packed:
                    packed.writelines(text)
            else:
                file.writelines(text)
        draft.chmod(0o644)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _write_tables(
    run: "Run",
    load: "Load",
    offsets: Mapping[int, int],
    redaction: "Redaction",
    target: Path,
    format: Format,
) -> None:
    import polars as pl

    from perfkit.trace.export_tables import collective_table, event_table, step_table, write_table

    steps, collectives = [], []
    for record in run.ranks:
        trace, offset = load(record), offsets.get(record.rank, 0)
        place = target / "events" / f"rank{record.rank:05d}.{format.value}"
        write_table(event_table(trace, offset, redaction), place)
        steps.append(step_table(trace, offset))
        collectives.append(collective_table(trace, offset, redaction))
    write_table(pl.concat(steps), target / f"steps.{format.value}")
    write_table(pl.concat(collectives), target / f"collectives.{format.value}")

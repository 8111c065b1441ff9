"""`perfkit export`: a run for other tools, all ranks on one clock."""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console
from perfkit.errors import InputError, UsageError, writing

if TYPE_CHECKING:
    from perfkit.trace.model import RankRecord, RankTrace, Run
    from perfkit.trace.redaction import Redaction

    Load = Callable[[RankRecord], RankTrace]


SCHEMA_VERSION = 1


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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print which files were written as JSON.")
    ] = False,
) -> None:
    """Write a run for other tools, with the clocks of all ranks aligned.

    Examples: perfkit export RUN --format perfetto; perfkit export RUN --format parquet --out
    tables; perfkit export RUN --format tensorboard
    """
    from perfkit.trace import run as run_folder
    from perfkit.trace.redaction import Redaction, originals

    with console.progress("opening"):
        run = run_folder.open_run(paths)
    target = out or _default_place(run, format)
    facts = [record.facts for record in run.ranks] + [node.facts for node in run.nodes]
    redaction = Redaction(originals(facts), hidden=redact)
    with writing(target, UsageError, hint="name another place with --out"):
        written = write(run, redaction, target, format)
    if written.unaligned:
        console.say(
            f"the clocks of ranks {_some(written.unaligned)} could not be aligned: times as "
            "recorded"
        )
    show(run, written, target, format, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files that were made, and the ranks whose clocks are as they were recorded."""

    files: tuple[Path, ...]
    unaligned: tuple[int, ...] = ()


def write(run: "Run", redaction: "Redaction", target: Path, format: Format) -> Written:
    """Write the run. Raises InputError where it holds nothing to write, OSError."""
    if format is Format.speedscope:
        return _write_stacks(run, redaction, target)
    if format is Format.tensorboard:
        return _write_scalars(run, redaction, target)
    return _write_aligned(run, redaction, target, format)


def show(run: "Run", written: Written, target: Path, format: Format, *, as_json: bool) -> None:
    """Say what was written, and what opens it."""
    if as_json:
        console.tell_json(
            {
                "schema_version": SCHEMA_VERSION,
                "format": format.value,
                "ranks": [record.rank for record in run.ranks],
                "unaligned_ranks": written.unaligned,
                "written": [str(file.absolute()) for file in written.files],
            }
        )
        return
    print(console.shown(target))
    if format in NEXT:
        console.suggest(NEXT[format].format(console.shown(target)))


NEXT = {
    Format.perfetto: "open it at ui.perfetto.dev",
    Format.speedscope: "open it at www.speedscope.app",
    Format.tensorboard: "tensorboard --logdir {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """A run whose ranks' clocks are known against each other."""

    run: "Run"
    load: "Load"
    offsets_ns: Mapping[int, int]
    redaction: "Redaction"


def _write_aligned(run: "Run", redaction: "Redaction", target: Path, format: Format) -> Written:
    from perfkit.analyzers.alignment import align_ranks
    from perfkit.trace import run as run_folder

    load = partial(run_folder.load_rank, cache=run_folder.cache_folder(run))
    with console.progress("aligning clocks") as doing:
        known = align_ranks(run, load)
        offsets = {rank: offset or 0 for rank, offset in known.items()}
        aligned = Aligned(run=run, load=load, offsets_ns=offsets, redaction=redaction)
        doing("writing")
        if format is Format.perfetto:
            files = _write_perfetto(aligned, target)
        else:
            files = _write_tables(aligned, target, format.value)
    unaligned = sorted(rank for rank, offset in known.items() if offset is None)
    return Written(files=files, unaligned=tuple(unaligned) if len(known) > 1 else ())


def _write_stacks(run: "Run", redaction: "Redaction", target: Path) -> Written:
    from perfkit.trace.export_speedscope import speedscope, stack_files

    files = stack_files(run.path) if run.path is not None else []
    if not files:
        raise InputError(
            "the run holds no Python stacks", hint="perfkit profile --py-spy -- CMD takes them"
        )
    with console.progress("writing"):
        _write_whole(target, iter([speedscope(files, f"perfkit {run.run_id}", redaction)]))
    return Written(files=(target,))


def _write_scalars(run: "Run", redaction: "Redaction", target: Path) -> Written:
    from perfkit.trace.export_tensorboard import event_files

    written = []
    with console.progress("writing"):
        for place, content in event_files(run, redaction):
            _write_whole(target / place, content)
            written.append(target / place)
    if not written:
        raise InputError(
            "the run holds no step lines and no telemetry",
            hint="perfkit profile records them; a lone trace does not",
        )
    return Written(files=tuple(written))


def _some(ranks: tuple[int, ...]) -> str:
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


def _write_perfetto(aligned: Aligned, target: Path) -> tuple[Path, ...]:
    from perfkit.trace.export_perfetto import Axis, origin_of, perfetto
    from perfkit.version import __version__

    run, starts = aligned.run, {}
    for record in run.ranks:
        events = aligned.load(record).events
        if len(events):
            starts[record.rank] = int(events.start_ns[0])
    axis = Axis(offsets_ns=aligned.offsets_ns, origin_ns=origin_of(starts, aligned.offsets_ns))
    about = {"perfkit": __version__, "ranks": len(run.ranks), "world_size": run.world_size}
    text = perfetto(map(aligned.load, run.ranks), axis, about, aligned.redaction)
    _write_whole(target, text)
    return (target,)


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


def _write_tables(aligned: Aligned, target: Path, suffix: str) -> tuple[Path, ...]:
    import polars as pl

    from perfkit.trace.export_tables import collective_table, event_table, step_table, write_table

    written, steps, collectives = [], [], []
    for record in aligned.run.ranks:
        trace, offset = aligned.load(record), aligned.offsets_ns.get(record.rank, 0)
        written.append(target / "events" / f"rank{record.rank:05d}.{suffix}")
        write_table(event_table(trace, offset, aligned.redaction), written[-1])
        steps.append(step_table(trace, offset))
        collectives.append(collective_table(trace, offset, aligned.redaction))
    for name, tables in (("steps", steps), ("collectives", collectives)):
        written.append(target / f"{name}.{suffix}")
        write_table(pl.concat(tables), written[-1])
    return tuple(written)

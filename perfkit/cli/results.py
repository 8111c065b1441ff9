"""From a run to its derived files: read, analyse, decide where to write, write whole files."""

import contextlib
import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from perfkit.analyzers import analysis as analysis_of
from perfkit.analyzers.result import Analysis
from perfkit.cli import console
from perfkit.errors import InputError, UsageError, writing
from perfkit.report import html
from perfkit.roofline import ceilings
from perfkit.roofline.ceilings import Ceilings
from perfkit.trace import run as run_folder
from perfkit.trace import whatis
from perfkit.trace.model import Run

ANALYSIS_FILE = "analysis.json"
REPORT_FILE = "report.html"
CEILINGS_FILE = "ceilings.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """An analysed run and where its derived files lie."""

    analysis: Analysis
    folder: Path
    run_path: Path | None  # None: traces that lie in no run folder

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.folder / REPORT_FILE

    @property
    def run(self) -> str:
        """The run folder as a command line names it; "" for traces that lie in none."""
        return "" if self.run_path is None else console.shown(self.run_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the traces of a run are read. `jobs`: processes at a time; 0: one a processor."""

    step_pattern: str = ""
    jobs: int = 0
    on_ray: bool = False


def produce(
    paths: Sequence[Path | str], out: Path | None, reading: Reading | None = None
) -> Results:
    """Analyse the run at `paths` and write analysis.json and report.html.

    They go to `out`, else into the run folder, else (foreign traces, a read-only run) into a new
    folder under ./perfkit-runs, which a line on stderr names. Raises InputError where the paths
    cannot be used, UsageError where nothing can be written.
    """
    reading = reading or Reading()
    run = _opened(paths, reading)
    folder = writable(out or run.path or elsewhere(run), may_move=out is None, run=run)
    measured = measured_ceilings(run, folder)
    analysis = analyse(run, measured, reading)
    with console.progress("writing the report"):
        keep_ceilings(folder, measured, analysis)
        write(folder / ANALYSIS_FILE, analysis_of.encode(analysis))
        page = html.render(analysis, called="" if run.path is None else called(run.path))
        write(folder / REPORT_FILE, page.encode())
    return Results(analysis=analysis, folder=folder, run_path=run.path)


def _opened(paths: Sequence[Path | str], reading: Reading) -> Run:
    pattern = reading.step_pattern
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--step-nvtx {pattern!r} is no regular expression: {error}",
            hint=r"for example --step-nvtx '^iteration (\d+)$'",
        ) from error
    with console.progress("opening"):
        run = run_folder.open_run(paths, step_pattern=pattern)
    if pattern and run.path is not None:
        raise UsageError(
            f"{run.path} is a run of perfkit profile, which recorded its steps",
            hint="give --step-nvtx for the traces of other tools only",
        )
    return run


def measured_ceilings(run: Run, folder: Path | None = None) -> Ceilings | None:
    """Return the ceilings beside a run, in the folder of its results, or in the current folder.

    None where there are none. A file that cannot be read costs the analysis nothing but a line.
    """
    places = [place for place in (run.path, folder, Path.cwd()) if place is not None]
    for file in (place / CEILINGS_FILE for place in dict.fromkeys(places)):
        if file.is_file():
            try:
                return ceilings.read(file)
            except InputError as error:
                console.say(f"measured ceilings are left out: {error}")
    return None


def keep_ceilings(folder: Path, measured: Ceilings | None, analysis: Analysis) -> None:
    """Keep measured ceilings that were used beside the results, which come out the same again."""
    used = analysis.roofline.ceilings if analysis.roofline is not None else ()
    file = folder / CEILINGS_FILE
    if measured and any(ceiling.is_measured for ceiling in used) and not file.exists():
        write(file, ceilings.encode(measured))


def analyse(run: Run, measured: Ceilings | None = None, reading: Reading | None = None) -> Analysis:
    """Analyse a run. Raises InputError, and UsageError where a cluster cannot be joined."""
    reading = reading or Reading()
    load = partial(run_folder.load_rank, cache=run_folder.cache_folder(run))
    total = len(run.ranks)
    done = itertools.count(1)
    with console.progress(f"analysing {total} rank{'s' * (total != 1)}") as show:
        return analysis_of.analyze(
            run,
            load,
            jobs=reading.jobs or len(os.sched_getaffinity(0)),
            on_rank=lambda _: show(f"analysing: {next(done)} of {total} ranks read"),
            ceilings=measured,
            mapper=_on_ray(reading.jobs) if reading.on_ray else None,
        )


def _on_ray(jobs: int) -> analysis_of.Mapper:
    from perfkit.analyzers import ray_engine

    ray_engine.start_ray()
    return partial(ray_engine.map_on_ray, jobs=jobs)


def recall(path: Path) -> Analysis:
    """Return the analysis that a run folder or an analysis.json holds.

    A run folder without one, or with one of another release, is analysed again. Raises InputError.
    """
    file = home(path) / ANALYSIS_FILE if path.is_dir() else path
    content = b""
    try:
        content = file.read_bytes()
        return analysis_of.decode(content)
    except (OSError, InputError) as error:
        if path.is_dir():
            run = run_folder.open_run([path])
            return analyse(run, measured_ceilings(run))
        if isinstance(error, OSError):
            what = error.strerror
        elif (what := whatis.what_is(content)[0]) in whatis.OBJECTS:
            what = error.message
        raise InputError(
            f"{path} is neither a run folder nor an analysis.json: {what}",
            hint="perfkit analyze reads traces",
        ) from error


def home(path: Path) -> Path:
    """Return the folder of a run that is named by its folder or by a file in it."""
    return path if path.is_dir() else path.parent


def called(folder: Path) -> str:
    """Return the name by which a user knows a run folder; "" for a folder that is none."""
    folder = folder.resolve()
    if not (folder / "nodes").is_dir():
        return ""
    says_nothing = folder.name in ("run", "out")
    return f"{folder.parent.name}/{folder.name}" if says_nothing else folder.name


def elsewhere(run: Run) -> Path:
    """Return where the derived files of a run go that cannot hold them itself.

    The same traces always go to the same folder, others of the same name to another.
    """
    sources = sorted(str(path.absolute()) for rank in run.ranks for path in rank.traces)
    digest = hashlib.sha256("\n".join([str(run.path), *sources]).encode()).hexdigest()[:6]
    name = run.run_id.partition(".")[0]
    return Path.cwd() / "perfkit-runs" / f"analysis-{name}-{digest}"


def writable(folder: Path, *, may_move: bool, run: Run) -> Path:
    """Return `folder` if it can be made and takes files, or another one if it may lie elsewhere.

    Makes nothing, so that an analysis that fails leaves nothing behind. Raises UsageError.
    """
    choices = [folder, elsewhere(run)] if may_move else [folder]
    reason = ""
    for choice in dict.fromkeys(choices):
        try:
            with tempfile.TemporaryFile(dir=_nearest_existing(choice)):
                pass
        except OSError as error:
            reason = reason or f"cannot write into {choice}: {error.strerror}"
            continue
        if reason:
            console.say(f"{reason}; the results go to {choice}")
        return choice
    raise UsageError(reason, hint="name a writable folder with --out DIR")


def _nearest_existing(folder: Path) -> Path:
    path = folder.absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())


def write(path: Path, content: bytes) -> None:
    """Write a whole file, and its folder, under a temporary name and rename it.

    Raises UsageError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, UsageError, hint="name another place with --out"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

"""A sweep over numbers of ranks: its plan, its runs, and reading them again."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.cli import console, exits, results
from perfkit.cli.profile import parse_window
from perfkit.cli.workdir import CarefulRunner, Place, offline
from perfkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis
    from perfkit.analyzers.scaling_runs import MeasuredRun
    from perfkit.analyzers.traffic import Traffic
    from perfkit.profiler.experiment import Limits
    from perfkit.trace.runner import Ended, Trial

RANKS, BATCH = "{ranks}", "{batch}"
EXAMPLE = (
    "perfkit scale --ranks 1,2,4 --mode strong --batch 64 -- "
    "torchrun --nproc-per-node {ranks} train.py --batch-size {batch}"
)
_BANDWIDTHS = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12}
_BANDWIDTHS |= {"bit/s": 0.125, "Mbit/s": 125e3, "Gbit/s": 125e6, "mbit": 125e3, "gbit": 125e6}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def plan(
    command: Sequence[str],
    ranks: str | None,
    mode: str | None,
    batch: int | None,
    repeats: int,
) -> "list[Trial]":
    """Return the trials of a sweep, interleaved. Raises UsageError."""
    from perfkit.trace.runner import Trial, interleaved

    if not command or ranks is None or mode is None:
        raise UsageError("a sweep needs --ranks, --mode and a command after --", hint=EXAMPLE)
    if not any(RANKS in word for word in command):
        raise UsageError(f"the command has no {RANKS}", hint=f"for example: {EXAMPLE}")
    wants_batch = any(BATCH in word for word in command)
    if wants_batch != (batch is not None) or (mode == "strong" and not wants_batch):
        raise UsageError(
            f"--batch and {BATCH} in the command belong together, and strong scaling needs them",
            hint=f"for example: {EXAMPLE}",
        )
    points = []
    for count in counts(ranks, "--ranks"):
        own = batch_of(batch, count, mode)
        words = tuple(w.replace(RANKS, str(count)).replace(BATCH, str(own)) for w in command)
        points.append(
            [Trial(name=f"ranks{count}-run{k + 1}", command=words) for k in range(repeats)]
        )
    return interleaved(points)


def batch_of(batch: int | None, ranks: int, mode: str) -> int | None:
    """Return the batch of one rank. Raises UsageError where it is no whole number."""
    if batch is None or mode == "weak":
        return batch
    if batch % ranks:
        raise UsageError(
            f"--batch {batch} is not divisible by {ranks} ranks",
            hint="strong scaling gives every rank the same share: choose another --batch",
        )
    return batch // ranks


def counts(text: str, option: str) -> tuple[int, ...]:
    """Read `1,2,4`, sorted. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"{option} {text}: not a list of numbers", hint=f"{option} 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def bandwidth(text: str) -> float:
    """Read `50GB/s` or `200mbit` as bytes per second. Raises UsageError."""
    return _quantity(text, _BANDWIDTHS, "--network", "50GB/s")


def seconds(text: str, option: str) -> float:
    """Read `5us`, `90s` or `10m` as seconds. Raises UsageError."""
    return _quantity(text, _TIMES, option, "5us" if option == "--alpha" else "10m")


def _quantity(text: str, units: Mapping[str, float], option: str, example: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e-?\d+)?)\s*([A-Za-z/]+)\s*", text)
    if found is None or found[2] not in units or not float(found[1]) > 0:
        raise UsageError(f"{option} {text}: not understood", hint=f"for example {option} {example}")
    return float(found[1]) * units[found[2]]


def limits(steps: int | None, window: str, time_limit: str) -> "Limits":
    """Return how far each run may go. Raises UsageError where nothing could be measured."""
    from perfkit.profiler.experiment import Limits

    first, last = parse_window(window)
    if steps is not None and steps <= last + 1:
        raise UsageError(
            f"--steps {steps} ends a run before step {last} of --window {window} is over",
            hint="leave some steps after the window: they are the ones that are timed",
        )
    return Limits(
        seconds=seconds(time_limit, "--time-limit"), steps=steps, windows=((first, last),)
    )


def default_folder(name: str) -> Path:
    """Return a new folder for a sweep."""
    return Path("perfkit-runs") / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-scale-{name}"


def script_name(trials: "Sequence[Trial]") -> str:
    """Return the name of the script that is run."""
    words = trials[0].command
    script = next((w for w in words if w.endswith(".py")), words[0])
    return re.sub(r"[^A-Za-z0-9_-]", "-", Path(script).stem) or "run"


def run(trials: "Sequence[Trial]", limit: "Limits", place: Place) -> list[Path]:
    """Run what has not been run yet, and return the run folders.

    Raises InputError if all fail, UsageError where the first changed files of the user's.
    """
    from perfkit.profiler.experiment import Beginning, Experiment

    home, names = place.home, [trial.name for trial in trials]
    ended: list[Ended] = []
    console.say(offline(os.environ))
    with console.progress("running") as show, exits.resumable(lambda: console.goes_on(home)):

        def begins(beginning: Beginning) -> None:
            name = beginning.trial.name
            show(f"run {names.index(name) + 1} of {len(names)}: {name}")
            place.begin(name)

        runner = CarefulRunner(Experiment(home, limit, on_begin=begins), place)
        for one in runner.run(trials):
            ended.append(one)
            _tell(one)
    known = sum(one.remembered for one in ended)
    if known:
        console.say(f"{known} of {len(ended)} runs were finished before in {console.shown(home)}")
    good = [one.run for one in ended if one.ok]
    if not good:
        raise InputError("every run of the sweep failed", hint="run the command by itself first")
    return good


def _tell(one: "Ended") -> None:
    """Say at once which run failed, and why."""
    if not one.ok:
        log = "" if one.log is None else f"; see {console.shown(one.log)}"
        console.say(f"{one.trial.name} failed: {one.reason}{log}")


def read(folders: Sequence[Path]) -> "tuple[list[MeasuredRun], dict[str, Traffic]]":
    """Analyse every run, and take what its ranks sent. Raises InputError."""
    from perfkit.analyzers.contention import beside_of, join_beside
    from perfkit.analyzers.refusal import Refusal
    from perfkit.analyzers.scaling_runs import measure
    from perfkit.analyzers.traffic import join_traffic, traffic_of
    from perfkit.trace import run as run_folder

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice", hint="it would count as two")
    measured: list[MeasuredRun] = []
    traffic: dict[str, Traffic] = {}
    for folder in folders:
        own = run_folder.open_run([folder])
        name = console.shown(folder)
        taken = measure(own, _analysis(folder), name)
        if isinstance(taken, Refusal):
            raise InputError(taken.reason, hint=taken.remedy)
        if taken.ranks > 1:
            cache = run_folder.cache_folder(own)
            loaded = (run_folder.load_rank(record, cache=cache) for record in own.ranks)
            told = [(traffic_of(trace), beside_of(trace)) for trace in loaded]
            traffic[name] = join_traffic([sent for sent, _ in told])
            taken = replace(taken, contention=join_beside([beside for _, beside in told]))
        measured.append(taken)
    return measured, traffic


def _analysis(folder: Path) -> "Analysis":
    if not (folder / results.ANALYSIS_FILE).is_file():
        return results.produce([folder], None).analysis
    return results.recall(folder)

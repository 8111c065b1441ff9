"""From run folders to the arms of a write-up: which run is what, and what it recorded."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.cli import console, results
from perfkit.errors import InputError, UsageError
from perfkit.profiler.ledger import FILE as LEDGER
from perfkit.profiler.ledger import Ledger
from perfkit.recipes import guard
from perfkit.recipes.recipe import Numerics
from perfkit.report.writeup.evidence import ALL, BASE, TITLES, Arm, Guess, Machine
from perfkit.trace import run as run_folder
from perfkit.trace.model import Run
from perfkit.trace.numerics import RankNumbers, read_numbers

_NAMED = re.compile(r"([a-z][a-z0-9-]*)=(.+)")
_REPEAT = re.compile(r"([a-z][a-z0-9-]*)-run\d+")
PREDICTIONS = "predictions.json"
SHARED = 0.05
"""Others' share of the machine from which on a write-up says that it was not quiet."""
_LENIENT = guard.tolerance_of("", Numerics.NUMERICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One run, read and analysed."""

    role: str
    folder: Path
    run: Run
    analysis: Analysis
    numbers: tuple[RankNumbers, ...]


def load(words: Sequence[str]) -> list[Loaded]:
    """Read RUN, ROLE=RUN and folders of ROLE-runN; the first plain RUN is the baseline.

    Raises UsageError where nothing is the baseline, InputError where a run cannot be read.
    """
    found: list[Loaded] = []
    for role, folder in (pair for word in words for pair in _spread(word)):
        with console.progress(f"reading {console.shown(folder)}"):
            run = run_folder.open_run([folder])
            if (folder / results.ANALYSIS_FILE).is_file():
                analysis = results.recall(folder)
            else:
                analysis = results.produce([folder], None).analysis
        numbers = read_numbers(run)
        known = [one for one in found if one.role == BASE]
        told = role or (inferred(known[0].run, run) if known else BASE)
        told = told or _own_name(folder, {one.role for one in found})
        found.append(Loaded(role=told, folder=folder, run=run, analysis=analysis, numbers=numbers))
    if found and not any(one.role == BASE for one in found):
        raise UsageError("no run is the baseline", hint="name it first, or as base=RUN")
    return found


def _spread(word: str) -> list[tuple[str, Path]]:
    """Return role ("" if not said) and folder of what a word names.

    Of a folder of a measurement, all runs that ended well.
    """
    named = _NAMED.fullmatch(word)
    role, folder = (named[1], Path(named[2])) if named else ("", Path(word))
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder", hint="give runs of perfkit profile")
    known = Ledger(folder).entries if (folder / LEDGER).is_file() else None
    inside = sorted(
        entry
        for entry in folder.iterdir()
        if _REPEAT.fullmatch(entry.name)
        and (known is None or (entry.name in known and known[entry.name].ok))
    )
    if not inside:
        repeat = _REPEAT.fullmatch(folder.name)  # such as perfkit writeup lab04 lab04-runs/*-run1
        return [(role or (repeat[1] if repeat else ""), folder)]
    order = [BASE, *(role for role in TITLES if role != BASE)]
    pairs = [(match[1], entry) for entry in inside if (match := _REPEAT.fullmatch(entry.name))]
    return sorted(pairs, key=lambda p: (order.index(p[0]) if p[0] in order else 99, p[1]))


def _own_name(folder: Path, taken: Set[str]) -> str:
    """Return a name for a run that nothing else tells the role of, which no other run has.

    Two folders of one name are two variants: whoever means repetitions says so by ROLE=RUN.
    """
    full = folder.resolve()
    if full.name not in taken and full.name not in TITLES:
        return full.name
    near = f"{full.parent.name}/{full.name}"
    return near if near not in taken else str(full)


def inferred(base: Run, run: Run) -> str:
    """Tell by the recorded facts what a run changed; "" where none says it."""
    changed = set()
    if _fact(run, "autocast") and not _fact(base, "autocast"):
        changed.add("amp")
    if _passes(run) > _passes(base):
        changed.add("accum")
    if _fact(run, "loader", "num_workers") != _fact(base, "loader", "num_workers"):
        changed.add("loader")
    if len(changed) > 1:
        return ALL
    return changed.pop() if changed else ""


def _fact(run: Run, *path: str) -> object:
    found: object = run.ranks[0].facts if run.ranks else {}
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _passes(run: Run) -> int:
    passes = run.ranks[0].lines.micro_batches
    return int(np.median(passes)) if len(passes) else 1


def arms(
    loaded: Sequence[Loaded],
    *,
    guesses: Mapping[str, Guess] | None = None,
    applied: Mapping[str, tuple[str, guard.Tolerance]] | None = None,
    refused: Mapping[str, str] | None = None,
) -> tuple[Arm, ...]:
    """Put the runs of each role together, and what could not be run behind them."""
    base = [one.numbers for one in loaded if one.role == BASE and one.numbers]
    found = []
    for role in dict.fromkeys(one.role for one in loaded):
        own = [one for one in loaded if one.role == role]
        last = [_last_loss(one.numbers) for one in own if one.numbers]
        known = [pair for pair in last if pair is not None]
        told, tolerance = (applied or {}).get(role, ("", _LENIENT))
        found.append(
            Arm(
                role=role,
                runs=tuple(console.shown(one.folder) for one in own),
                analyses=tuple(one.analysis for one in own),
                losses=tuple(value for _, value in known),
                loss_step=known[0][0] if known else None,
                guess=(guesses or {}).get(role),
                applied=told,
                verdict="" if role == BASE else _judged(base, own, tolerance),
            )
        )
    kept = [
        Arm(role=role, runs=(), analyses=(), refused=reason, guess=(guesses or {}).get(role))
        for role, reason in (refused or {}).items()
        if not any(arm.role == role for arm in found)
    ]
    return (*found, *kept)


def kept_guesses(words: Sequence[str]) -> dict[str, Guess]:
    """Return the predictions that a measurement wrote down, of the folders that hold runs."""
    found: dict[str, Guess] = {}
    for word in words:
        file = Path(word.partition("=")[2] or word) / PREDICTIONS
        if file.is_file():
            found |= read_guesses(file)
    return found


def read_guesses(file: Path) -> dict[str, Guess]:
    """Return the predictions in a file. Raises InputError."""
    try:
        known = json.loads(file.read_text())["predictions"]
        return {role: Guess(**values) for role, values in known.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not the predictions of a measurement: {error}",
            hint="remove it, and they are made again before the next run",
        ) from error


def _last_loss(numbers: Sequence[RankNumbers]) -> tuple[int, float] | None:
    """Return the last step with a loss on all ranks, and the mean over them."""
    lengths = [len(rank.losses) for rank in numbers]
    if not lengths or not min(lengths):
        return None
    step = min(lengths) - 1
    values = [float(rank.losses[step]) for rank in numbers]
    return (step, sum(values) / len(values)) if all(map(isfinite, values)) else None


def _judged(
    base: Sequence[Sequence[RankNumbers]], own: Sequence[Loaded], tolerance: guard.Tolerance
) -> str:
    """Return the numerics guard's word on the first run of an arm; "" without numbers."""
    if not base or not own[0].numbers:
        return ""
    said = guard.guard(base[0], own[0].numbers, guard.floor_of(base), tolerance)
    if said.ok:
        return f"numerics guard: ok{f', but {said.reason}' if said.reason else ''}"
    return f"numerics guard: rejected, {said.reason}"


def options_of(base: Loaded, loaded: Sequence[Loaded]) -> str:
    """Return the options with which --measure made these runs; "" for runs made elsewhere.

    The runs that it lacks must be made with the same ones.
    """
    facts = base.run.nodes[0].facts if base.run.nodes else {}
    windows = facts.get("windows")
    if not _REPEAT.fullmatch(base.folder.resolve().name) or not isinstance(windows, list):
        return ""
    counts = Counter(one.role for one in loaded)
    options = [f"--repeats {max(counts.values())}"]
    options += [f"--window {first}:{last}" for first, last in windows]
    return " ".join(options)


def machine_of(one: Loaded, loaded: Sequence[Loaded]) -> Machine:
    """Return what a run's launching parent wrote down of the machine, and who else used it."""
    facts = one.run.nodes[0].facts if one.run.nodes else {}
    memory = facts.get("memory_bytes")
    parts = [str(facts[k]) for k in ("cpu_model",) if facts.get(k)]
    if facts.get("cpus_available"):
        parts.append(f"{facts['cpus_available']} processors")
    if isinstance(memory, int):
        parts.append(f"{memory / 2**30:.0f} GiB of memory")
    run = one.analysis.run
    software = ", ".join(
        text
        for text in (
            f"torch {run.torch}" if run.torch else "",
            f"Python {run.python}" if run.python else "",
            f"backend {run.backend}" if run.backend else "",
            f"perfkit {one.analysis.perfkit_version}",
        )
        if text
    )
    return Machine(
        hardware=", ".join(parts),
        software=software,
        command=run.command,
        shared=_shared([other.analysis for other in loaded]),
    )


def _shared(runs: Sequence[Analysis]) -> str:
    shares = [
        (node.other_cores / node.processors, node.processors)
        for run in runs
        for node in run.telemetry
        if node.other_cores is not None
    ]
    if not shares or max(shares)[0] <= SHARED:
        return ""
    least, most = min(shares)[0], max(shares)[0]
    return (
        "The machine was shared: other programs and the kernel's own threads used "
        f"{units.percent(least)} to {units.percent(most)} of its {shares[0][1]} processors while "
        "these runs trained, more in some than in others, so that the times are not those of a "
        "quiet machine and differ from run to run for reasons that are not the training's."
    )


def traces_of(loaded: Sequence[Loaded]) -> tuple[str, ...]:
    """Return the profilers' files of the first run of each role."""
    found: list[str] = []
    seen: set[str] = set()
    for one in loaded:
        if one.role in seen:
            continue
        seen.add(one.role)
        files = [path for record in one.run.ranks for path in record.traces]
        files += sorted(one.folder.glob("nsys/*.nsys-rep"))
        found += [f"{one.role}: {console.shown(path)}" for path in files]
    return tuple(found)

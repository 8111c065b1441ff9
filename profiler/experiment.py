"""Run a command again and again: each trial a run folder, with limits, resumable.

FOLDER/ledger.jsonl     what has been done; a finished run is never run again
FOLDER/NAME/            the run folder of a trial      FOLDER/NAME.log   what it printed
FOLDER/NAME.failed-1/   an earlier try that failed or was cut short; a resumed experiment tries again
"""  # noqa: E501

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from perfkit.errors import SetupError, writing
from perfkit.profiler import ledger, side_effects
from perfkit.profiler.launch import DEFAULT_WINDOW, ProfileOptions, ProfileOutcome, profile
from perfkit.profiler.ledger import Entry, Ledger
from perfkit.profiler.side_effects import SideEffects
from perfkit.trace.runner import Ended, Trial

LAST_LINES = 4096  # bytes of a log that are looked through for a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a trial may go, and what it records."""

    seconds: float | None = None
    steps: int | None = None  # it ends after so many, on all ranks together
    windows: tuple[tuple[int, int], ...] = (DEFAULT_WINDOW,)
    trace: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A trial that is about to run: the how-many-th of how many."""

    trial: Trial
    number: int
    total: int


class Experiment:
    """Trials in one folder. Satisfies `perfkit.trace.runner.Runner`."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        on_begin: Callable[[Beginning], None] | None = None,
        retries: bool = True,
        elsewhere: str = ledger.ELSEWHERE,
    ) -> None:
        """`retries`: whether runs that failed in an earlier experiment are run again.

        `elsewhere`: what tells the user how to name another folder.
        """
        self.folder = folder.absolute()
        self.limits = limits
        self.side_effects: SideEffects | None = None
        self._on_begin = on_begin
        self._retries = retries
        with writing(folder, SetupError, hint=elsewhere):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(self.folder, elsewhere=elsewhere)

    def run(self, trials: Sequence[Trial]) -> Iterator[Ended]:
        """Yield how each trial ended. Raises KeyboardInterrupt once a trial was interrupted.

        Raises SetupError before the first trial where the folder holds other trials of that name,
        or where the command cannot be executed.
        """
        names = [trial.name for trial in trials]
        if len(set(names)) < len(names):
            raise ValueError("trials of one experiment need names of their own")
        options = asdict(self.limits)
        keys = {trial.name: ledger.key_of(trial, options) for trial in trials}
        known = {
            t.name: self._ledger.finished(t, keys[t.name], failed_too=not self._retries)
            for t in trials
        }
        before = side_effects.files_of(Path.cwd(), self.folder)
        for number, trial in enumerate(trials, 1):
            done = known[trial.name]
            if done is not None:
                yield self._remembered(trial, done)
                continue
            if self._on_begin is not None:
                self._on_begin(Beginning(trial=trial, number=number, total=len(trials)))
            yield self._run_one(trial, keys[trial.name])
        after = side_effects.files_of(Path.cwd(), self.folder)
        self.side_effects = side_effects.compare(before, after)
        if self.side_effects is not None and any(asdict(self.side_effects).values()):
            self._ledger.note("side_effects", **asdict(self.side_effects))

    def _remembered(self, trial: Trial, done: Entry) -> Ended:
        return Ended(
            trial=trial,
            run=self.folder / trial.name,
            ok=done.ok,
            reason=done.reason,
            log=self._log(trial),
            seconds=done.seconds,
            remembered=True,
        )

    def _run_one(self, trial: Trial, key: str) -> Ended:
        run, log = self.folder / trial.name, self._log(trial)
        for leftover in (run, log):
            _move_aside(leftover)
        begun = time.monotonic()
        outcome = profile(trial.command, self._options(trial))
        seconds = time.monotonic() - begun
        if outcome.interrupted:
            raise KeyboardInterrupt
        reason = _reason(outcome, log, self.limits)
        self._ledger.add(
            Entry(name=trial.name, key=key, ok=not reason, reason=reason, seconds=seconds)
        )
        return Ended(trial=trial, run=run, ok=not reason, reason=reason, log=log, seconds=seconds)

    def _options(self, trial: Trial) -> ProfileOptions:
        limits = self.limits
        return ProfileOptions(
            out=self.folder / trial.name,
            windows=limits.windows,
            trace=limits.trace,
            stop_after=limits.steps,
            seconds=limits.seconds,
            output=self._log(trial),
            environment=trial.environment,
        )

    def _log(self, trial: Trial) -> Path:
        return self.folder / f"{trial.name}.log"


def _move_aside(path: Path) -> None:
    """Rename what an earlier, unfinished try left, so that nothing is lost or mixed."""
    if not path.exists():
        return
    number = 1
    while (other := path.with_name(f"{path.stem}.failed-{number}{path.suffix}")).exists():
        number += 1
    path.rename(other)


def _reason(outcome: ProfileOutcome, log: Path, limits: Limits) -> str:
    """Return why a trial failed; "" if it did not."""
    if outcome.timed_out:
        return f"it took longer than {limits.seconds:g} s and was ended"
    if outcome.signal is not None:
        return f"it was killed by signal {outcome.signal}"
    if outcome.status:
        last = _last_line(log)
        return f"it ended with status {outcome.status}" + (f": {last}" if last else "")
    return ""


def _last_line(log: Path) -> str:
    """Return the last line of a log that names an error, else its last line."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LAST_LINES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line.strip() for line in lines if line.strip()]
    errors = [line for line in told if "Error" in line]
    return (errors or told or [""])[-1][:200]

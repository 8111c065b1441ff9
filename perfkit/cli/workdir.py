"""Where the trials of optimize, scale and faults run, and what they may do to the folder there.

The first trial shows what the command makes or changes in the working directory. If it changes what
was there before, no other trial starts, unless each runs in a copy or the user allows it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console, results
from perfkit.errors import UsageError
from perfkit.profiler.side_effects import NOT_WATCHED, SideEffects
from perfkit.trace.runner import Ended, Trial

if TYPE_CHECKING:
    from perfkit.profiler.experiment import Experiment

OFFLINE = {
    "WANDB_MODE": "offline",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
}
"""Trials are no experiments of the user's: their trackers keep what they log on this machine."""
SIDE_EFFECTS = "side-effects.json"
COPIES = "copies"
MOST_NAMED = 5


class Workdir(StrEnum):
    """Where trials run."""

    SAME = "same"
    COPY = "copy"


Where = Annotated[
    Workdir, typer.Option("--workdir", help="Run trials in this folder, or each in a copy of it.")
]
AllowWrites = Annotated[
    bool,
    typer.Option("--allow-writes", help="Go on although a run changes files of this folder."),
]


@dataclass(slots=True, kw_only=True)
class Place:
    """The working directory of trials whose results lie in `home`."""

    home: Path
    copy: bool = False
    allow_writes: bool = False
    checked: bool = False

    def prepared(self, trial: Trial) -> Trial:
        """Return the trial as it is launched: trackers offline, in a copy where that is wanted."""
        command = trial.command
        if self.copy:
            folder = str(self._copy_of(trial.name))
            command = ("sh", "-c", 'cd "$0" && exec "$@"', folder, *command)
        return replace(trial, command=command, environment={**OFFLINE, **trial.environment})

    def begin(self, name: str) -> None:
        """Make the copy that a trial runs in."""
        if not self.copy:
            return
        place, own = self._copy_of(name), str(self.home.absolute())
        shutil.rmtree(place, ignore_errors=True)
        ignored = shutil.ignore_patterns(*NOT_WATCHED)

        def ignore(folder: str, names: list[str]) -> set[str]:
            inside = {n for n in names if os.path.join(os.path.abspath(folder), n) == own}
            return set(ignored(folder, names)) | inside

        shutil.copytree(Path.cwd(), place, symlinks=True, ignore=ignore)

    def end(self, name: str) -> None:
        """Remove the copy of a trial that has ended."""
        if self.copy:
            shutil.rmtree(self._copy_of(name), ignore_errors=True)

    def keep(self, found: SideEffects | None) -> None:
        """Keep what the first trial did: what goes on later must not forget it."""
        file = self.home / SIDE_EFFECTS
        if file.exists():
            return
        known = found or SideEffects(made=(), changed=(), removed=())
        document = {"made": known.made, "changed": known.changed, "removed": known.removed}
        document["watched"] = (str(found is not None),)
        results.write(file, json.dumps(document, indent=1).encode())

    def check(self) -> None:
        """Say what a trial makes. Raises UsageError where it changes what was there before."""
        self.checked = True
        try:
            found = json.loads((self.home / SIDE_EFFECTS).read_bytes())
        except (OSError, ValueError):
            return
        if found.get("watched") == ["False"]:
            console.say("this folder holds too many files to watch what trials change in it")
        if found.get("made"):
            console.say(f"a run makes in this folder: {named(found['made'])}")
        touched = [*found.get("changed", ()), *found.get("removed", ())]
        if touched and not self.allow_writes and not self.copy:
            raise UsageError(
                f"a run changes files that were here before: {named(touched)}; "
                "every trial would do so again",
                hint="--workdir copy runs each trial in a copy of this folder, --allow-writes here",
            )

    def _copy_of(self, name: str) -> Path:
        return self.home.absolute() / COPIES / name


class CarefulRunner:
    """An experiment in a place. Satisfies `perfkit.trace.runner.Runner`."""

    def __init__(self, experiment: "Experiment", place: Place) -> None:
        self.experiment = experiment
        self.place = place
        self.folder = experiment.folder

    def run(self, trials: Sequence[Trial]) -> Iterator[Ended]:
        """Yield how each ended. Raises UsageError after a first one that changed the user's files.

        Raises KeyboardInterrupt and SetupError as the experiment does.
        """
        asked = {trial.name: trial for trial in trials}
        waiting = [self.place.prepared(trial) for trial in trials]
        while waiting:
            together = waiting if self.place.checked else waiting[:1]
            waiting = waiting[len(together) :]
            good = False
            try:
                for ended in self.experiment.run(together):
                    self.place.end(ended.trial.name)
                    good = ended.ok
                    yield replace(ended, trial=asked[ended.trial.name])
            finally:  # of one that was interrupted
                for trial in together:
                    self.place.end(trial.name)
            if not self.place.checked and good:
                self.place.keep(self.experiment.side_effects)
                self.place.check()


def named(paths: Sequence[str]) -> str:
    """Return the first few paths, and how many more there are."""
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more


def offline(environ: Mapping[str, str]) -> str:
    """Say which trackers are set offline; the user's own settings are overruled and named."""
    own = [name for name in OFFLINE if environ.get(name, OFFLINE[name]) != OFFLINE[name]]
    told = ", ".join(f"{name}={value}" for name, value in OFFLINE.items())
    return f"trials log nowhere else: {told}" + (f" (yours is {', '.join(own)})" if own else "")

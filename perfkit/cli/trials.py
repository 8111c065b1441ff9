"""The laboratory of `perfkit optimize`: real runs of the user's command, each in its run folder."""

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.analyzers.refusal import Refusal
from perfkit.cli import console, results
from perfkit.errors import PerfkitError, UsageError
from perfkit.profiler.experiment import Beginning, Experiment, Limits
from perfkit.profiler.launch import DEFAULT_WINDOW
from perfkit.profiler.side_effects import NOT_WATCHED, SideEffects
from perfkit.recipes import ledger
from perfkit.recipes.activation import Choice, activate
from perfkit.recipes.measured import STEPS, Measured, Wanted, measure
from perfkit.recipes.search import Diagnosis
from perfkit.recipes.situation import situation_of
from perfkit.trace.run import open_run
from perfkit.trace.runner import Ended, Trial

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis

SEED = "20260"
OFFLINE = {
    "WANDB_MODE": "offline",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
}
"""Trials are no experiments of the user's: their trackers keep what they log on this machine."""
NOT_SEEDED = {"PERFKIT_NUMERICS": SEED, "PYTHONHASHSEED": "0"}
SIDE_EFFECTS = "side-effects.json"
COPIES = "copies"
LEAST_LIMIT_S, TIMES_BASELINE = 60, 5
FIRST_LIMIT_S = 3600.0
DIAGNOSED_STEPS = STEPS + DEFAULT_WINDOW[1] - DEFAULT_WINDOW[0] + 2
MOST_NAMED = 5


@dataclass(slots=True)
class Trials:
    """Runs trials of `command` in `home`; finished ones are taken from there.

    `copy`: each runs in a copy of the working directory. `limit_s`: how long the first may take;
    later ones get five times what the first took, so that a hang does not cost an hour.
    """

    command: tuple[str, ...]
    home: Path
    environ: Mapping[str, str]
    copy: bool = False
    allow_writes: bool = False
    limit_s: float = FIRST_LIMIT_S
    number: int = 0
    analyses: dict[str, "Analysis"] = field(default_factory=dict)

    def run(self, wanted: Wanted) -> Measured:
        """Run one trial and measure it. Raises KeyboardInterrupt."""
        activation = activate(wanted.stack, self.environ)
        for recipe, refusal in activation.refused.items():
            del recipe
            return Measured(wanted=wanted, ok=False, reason=f"refused: {refusal}")
        limits = Limits(seconds=self.limit_s, steps=wanted.steps, windows=(), trace=False)
        ended = self._launch(wanted.name, wanted.stack, limits)
        if not ended.ok:
            reason = ended.reason if ended.log is None else f"{ended.reason} ({ended.log.name})"
            return Measured(wanted=wanted, ok=False, reason=reason, seconds=ended.seconds)
        try:
            return measure(wanted, open_run([ended.run]), ended.seconds)
        except PerfkitError as error:
            return Measured(wanted=wanted, ok=False, reason=error.message, seconds=ended.seconds)

    def diagnose(self, name: str, stack: Sequence[Choice]) -> Diagnosis | Refusal:
        """Run a traced trial and analyse it. UsageError: it changed files of the user's."""
        limits = Limits(seconds=self.limit_s, steps=DIAGNOSED_STEPS)
        ended = self._launch(name, stack, limits)
        if not ended.ok:
            log = "" if ended.log is None else f"; see {console.shown(ended.log)}"
            return Refusal(reason=f"the training failed: {ended.reason}{log}")
        if not stack:
            self._check_side_effects()
            again = TIMES_BASELINE * round(ended.seconds, 3)
            self.limit_s = min(self.limit_s, max(LEAST_LIMIT_S, 10 * math.ceil(again / 10)))
        try:
            analysis = results.produce([ended.run], None).analysis
            run = open_run([ended.run])
        except PerfkitError as error:
            return Refusal(reason=error.message)
        self.analyses[name] = analysis
        labels = tuple(choice.label for choice in stack)
        diagnosed = ledger.Diagnosed(
            stack=labels,
            trial=name,
            label=analysis.verdict.label,
            dominant=analysis.verdict.dominant or "",
            step_ms=analysis.steps.median_ms,
            findings=tuple(finding.id for finding in analysis.findings),
        )
        situation = situation_of(analysis, run, self.environ)
        return Diagnosis(situation=situation, diagnosed=diagnosed, seconds=ended.seconds)

    def _launch(self, name: str, stack: Sequence[Choice], limits: Limits) -> Ended:
        variables = {**OFFLINE, **NOT_SEEDED, **activate(stack, self.environ).environment}
        command = self.command
        if self.copy:
            command = ("sh", "-c", 'cd "$0" && exec "$@"', str(self._place(name)), *command)
        experiment = Experiment(self.home, limits, on_begin=self._begins)
        trial = Trial(name=name, command=command, environment=variables)
        with console.progress(name):
            (ended,) = experiment.run([trial])
        if self.copy:
            shutil.rmtree(self._place(name), ignore_errors=True)
        self._keep_side_effects(experiment.side_effects)
        return ended

    def _begins(self, beginning: Beginning) -> None:
        self.number += 1
        if self.copy:
            place = self._place(beginning.trial.name)
            shutil.rmtree(place, ignore_errors=True)
            ignored = shutil.ignore_patterns(*NOT_WATCHED)
            own = str(self.home.absolute())

            def ignore(folder: str, names: list[str]) -> set[str]:
                inside = {n for n in names if os.path.join(os.path.abspath(folder), n) == own}
                return set(ignored(folder, names)) | inside

            shutil.copytree(Path.cwd(), place, symlinks=True, ignore=ignore)

    def _place(self, name: str) -> Path:
        return self.home.absolute() / COPIES / name

    # What the training does to the working directory

    def _keep_side_effects(self, found: SideEffects | None) -> None:
        """Keep what the first trial did: a resumed search must not forget it."""
        file = self.home / SIDE_EFFECTS
        if file.exists():
            return
        known = found or SideEffects(made=(), changed=(), removed=())
        document = {"made": known.made, "changed": known.changed, "removed": known.removed}
        document["watched"] = (str(found is not None),)
        results.write(file, json.dumps(document, indent=1).encode())

    def _check_side_effects(self) -> None:
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


def named(paths: Sequence[str]) -> str:
    """Return the first few paths, and how many more there are."""
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more


def offline(environ: Mapping[str, str]) -> str:
    """Say which trackers are set offline; the user's own settings are overruled and named."""
    own = [name for name in OFFLINE if environ.get(name, OFFLINE[name]) != OFFLINE[name]]
    told = ", ".join(f"{name}={value}" for name, value in OFFLINE.items())
    return f"trials log nowhere else: {told}" + (f" (yours is {', '.join(own)})" if own else "")

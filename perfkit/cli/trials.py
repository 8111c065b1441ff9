"""The laboratory of `perfkit optimize`: real runs of the user's command, each in its run folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.analyzers.refusal import Refusal
from perfkit.cli import console, results
from perfkit.cli.workdir import CarefulRunner, Place
from perfkit.errors import PerfkitError
from perfkit.profiler.experiment import Beginning, Experiment, Limits
from perfkit.profiler.launch import DEFAULT_WINDOW
from perfkit.recipes import ledger
from perfkit.recipes.activation import Choice, activate
from perfkit.recipes.measured import STEPS, Measured, Wanted, measure
from perfkit.recipes.search import Diagnosis
from perfkit.recipes.situation import situation_of
from perfkit.trace.run import open_run
from perfkit.trace.runner import Ended, Trial

if TYPE_CHECKING:
    from perfkit.analyzers.result import Analysis

SEED = 20260
LEAST_LIMIT_S, TIMES_BASELINE = 60, 5
FIRST_LIMIT_S = 3600.0
DIAGNOSED_STEPS = STEPS + DEFAULT_WINDOW[1] - DEFAULT_WINDOW[0] + 2


@dataclass(slots=True)
class Trials:
    """Runs trials of `command` in `place`; finished ones are taken from its home.

    `limit_s`: how long the first may take; later ones get five times what the longest run as it is
    took so far, so that a hang does not cost an hour.
    """

    command: tuple[str, ...]
    place: Place
    environ: Mapping[str, str]
    limit_s: float = FIRST_LIMIT_S
    analyses: dict[str, "Analysis"] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The folder of the search."""
        return self.place.home

    def run(self, wanted: Wanted) -> Measured:
        """Run one trial and measure it. Raises KeyboardInterrupt."""
        activation = activate(wanted.stack, self.environ)
        for recipe, refusal in activation.refused.items():
            del recipe
            return Measured(wanted=wanted, ok=False, reason=f"refused: {refusal}")
        limits = Limits(seconds=self.limit_s, steps=wanted.steps, windows=(), trace=False)
        ended = self._launch(wanted.name, wanted.stack, limits, wanted.seed)
        if not ended.ok:
            reason = ended.reason if ended.log is None else f"{ended.reason} ({ended.log.name})"
            return Measured(wanted=wanted, ok=False, reason=reason, seconds=ended.seconds)
        if not wanted.stack:
            self.limit_s = max(self.limit_s, limit_after(ended.seconds))
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
            self.limit_s = min(self.limit_s, limit_after(ended.seconds))
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
        situation = situation_of(analysis, run, self.environ, results.measured_ceilings(run))
        return Diagnosis(situation=situation, diagnosed=diagnosed, seconds=ended.seconds)

    def _launch(self, name: str, stack: Sequence[Choice], limits: Limits, seed: int = 0) -> Ended:
        seeds = {"PERFKIT_NUMERICS": str(SEED + seed), "PYTHONHASHSEED": str(seed)}
        variables = {**seeds, **activate(stack, self.environ).environment}
        # A recipe that failed has failed for good, so that a search that goes on decides the same.
        experiment = Experiment(self.home, limits, on_begin=self._begins, retries=not stack)
        runner = CarefulRunner(experiment, self.place)
        trial = Trial(name=name, command=self.command, environment=variables)
        with console.progress(name):
            (ended,) = runner.run([trial])
        return ended

    def _begins(self, beginning: Beginning) -> None:
        self.place.begin(beginning.trial.name)


def limit_after(seconds: float) -> float:
    """Return how long a trial may take where one took so long, in whole tens of seconds."""
    return max(LEAST_LIMIT_S, 10 * math.ceil(TIMES_BASELINE * round(seconds, 3) / 10))

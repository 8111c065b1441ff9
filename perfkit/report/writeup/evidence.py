"""What a write-up rests on: arms of runs, each with one thing changed against the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.two_arms import difference

BASE, SILENT, ALL = "base", "nocomm", "all"
TITLES = {
    BASE: "Baseline",
    "amp": "+ AMP",
    "accum": "+ Grad Accum",
    "loader": "+ DataLoader",
    ALL: "+ All",
    SILENT: "communication off (no_sync)",
}
"""The rows of the lab sheet's table, and the run behind its way to time communication."""
TABLE = (BASE, "amp", "accum", "loader", ALL)
SAME_WORK = 0.3
"""Steps whose samples differ by less hold the same work: accumulation at least doubles them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A prediction, made from the baseline before the change was measured."""

    speed_up: float | None
    low: float | None
    high: float | None
    why: str


def _mean(values: Sequence[float]) -> float | None:
    return exp(sum(map(log, values)) / len(values)) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Runs of one variant. losses: of the last recorded step, mean over ranks, one a run."""

    role: str
    runs: tuple[str, ...]  # folders as they were given
    analyses: tuple[Analysis, ...]
    losses: tuple[float, ...] = ()
    loss_step: int | None = None
    guess: Guess | None = None
    applied: str = ""  # what was changed, in words
    refused: str = ""  # why the change could not be made
    verdict: str = ""  # of the numerics guard, where there is one

    @property
    def title(self) -> str:
        """The name of its row."""
        return TITLES.get(self.role, self.role)

    @property
    def first(self) -> Analysis:
        """The run that is looked into; all are behind the step times."""
        return self.analyses[0]

    @property
    def rates(self) -> tuple[float, ...]:
        """Samples per second of each run; () where any run did not record them."""
        found = [a.throughput.samples_per_s for a in self.analyses]
        return tuple(r for r in found if r) if all(found) else ()

    @property
    def rate(self) -> float | None:
        """Geometric mean of samples per second over runs."""
        return _mean(self.rates)

    @property
    def token_rate(self) -> float | None:
        """Geometric mean of tokens per second over runs; None where any run counted none."""
        found = [a.throughput.tokens_per_s for a in self.analyses]
        return _mean([r for r in found if r]) if all(found) else None

    @property
    def step_ms(self) -> float | None:
        """Geometric mean over runs of the median unprofiled step."""
        found = [a.steps.median_ms for a in self.analyses if a.steps.median_ms]
        return _mean(found)

    @property
    def samples_per_step(self) -> float | None:
        """Samples of the whole job in an optimizer step, from throughput and step time."""
        return None if not self.rate or not self.step_ms else self.rate * self.step_ms / 1e3

    @property
    def loss(self) -> float | None:
        """Mean over runs of the last loss."""
        return sum(self.losses) / len(self.losses) if self.losses else None

    @property
    def memory(self) -> tuple[float, str] | None:
        """The most memory of one rank in bytes, and what kind of memory; None if not recorded."""
        run = self.first
        held = [m.peak_allocated_bytes for m in run.memory]
        if held:
            return float(max(held)), "allocated by torch"
        gpus = [g.peak_memory_bytes for node in run.telemetry for g in node.gpus]
        found = [g for g in gpus if g]
        if found:
            return float(max(found)), "of the device in use"
        resident = [r.peak_rss_bytes for node in run.telemetry for r in node.ranks]
        some = [r for r in resident if r]
        return (float(max(some)), "resident, libraries included") if some else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedUp:
    """Throughput of an arm over the baseline's; limits are 95 % over runs, None for single runs."""

    ratio: float
    low: float | None
    high: float | None

    @property
    def proven(self) -> bool | None:
        """Whether the interval leaves out 1; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 1 or self.high < 1


def speed_up(base: Arm, arm: Arm) -> SpeedUp | None:
    """Return the ratio of samples per second, by t limits on the logarithms; None if unknown."""
    if not base.rates or not arm.rates:
        return None
    old, new = [log(r) for r in base.rates], [log(r) for r in arm.rates]
    found = difference(old, new)
    if isinstance(found, Refusal):
        return SpeedUp(ratio=exp(new[0] - old[0]), low=None, high=None)
    return SpeedUp(ratio=exp(found.point), low=exp(found.low), high=exp(found.high))


def work_ratio(base: Arm, arm: Arm) -> float:
    """Return how many times the samples of the baseline's step a step of an arm holds."""
    old, new = base.samples_per_step, arm.samples_per_step
    if not old or not new:
        return 1.0
    ratio = new / old
    return 1.0 if abs(ratio - 1) < SAME_WORK else ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the baseline ran, and how."""

    hardware: str
    software: str
    command: str
    shared: str = ""  # how much of the machine others used, "" if it was quiet or is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All arms. traces: files to attach. measured: the line that measures what is missing."""

    machine: Machine
    arms: tuple[Arm, ...]
    traces: tuple[str, ...]
    measure: str
    price_per_rank_hour: float | None = None

    def arm(self, role: str) -> Arm | None:
        """Return the arm of a role that was run."""
        return next((a for a in self.arms if a.role == role and a.analyses), None)

    def refusal(self, role: str) -> str:
        """Return why a role was not run, "" if nobody tried."""
        return next((a.refused for a in self.arms if a.role == role), "")

    @property
    def base(self) -> Arm:
        """The baseline."""
        found = self.arm(BASE)
        assert found is not None  # the command line sees to it
        return found

    @property
    def others(self) -> Sequence[Arm]:
        """What was changed and run, in the order of the table, without the silent run."""
        known = [a for role in TABLE[1:] if (a := self.arm(role)) is not None]
        own = [a for a in self.arms if a.role not in TITLES and a.analyses]
        return [*known, *own]

"""Holds diagnoses against truths: what perfkit named, whether it was right, how sure it was.

An outcome is one run: plain numbers and words, so that it can be kept as a line of JSON and judged
again later. Three answers are judged apart, because a reader acts on each of them: the label (what
bounds the step), the cause (the largest thing that could be saved) and the rank accused.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

import msgspec

from perfkit.analyzers.result import Analysis
from perfkit.analyzers.statistics import Proportion, wilson
from perfkit.analyzers.verdict import LEAST_MARGIN, SEVERITY_CUTS
from perfkit.trace.kinds import ROLLUP
from tests.corpus.scenario import CAUSES

FAMILY_OF = {c.key: family for family, classes in ROLLUP.items() for c in classes}
LEAST_SHARE = 0.05
NOISE_DEVIATIONS = 3.0
TOLERANCE = 0.02
"""How far a share may be from a threshold of perfkit's for both sides of it to be accepted."""
UNSETTLED = ("mixed", "undetermined")
NOBODY = -1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run: the truth, and what perfkit said. Times in ms per step, shares of the step.

    costs: the true share of each family. elastic: the family whose small changes matter most; ""
    where that is not known. rank: NOBODY where no single rank is at fault.
    """

    name: str
    kind: str  # synthetic or real
    seed: int
    causes: tuple[str, ...]
    strength: str
    ranks: int
    injected_ms: float
    step_ms: float
    rank: int
    costs: dict[str, float]
    elastic: str
    label: str
    mixed_of: tuple[str, ...]
    dominant: str | None
    limiter: str | None
    confidence: float | None
    tentative: bool
    status: str
    shares: dict[str, float]
    accused: tuple[tuple[int, str, float], ...]  # rank, class, share of the step it costs
    lost: float = 0.0  # of real runs: the share of its time that the worst rank lost to others

    @property
    def leaders(self) -> tuple[str, ...]:
        """The families that cost most, largest first."""
        return tuple(sorted(self.costs, key=lambda family: -self.costs[family]))

    @property
    def margin(self) -> float:
        """By which share of the step the first family truly costs more than the second."""
        first, second, *_ = self.leaders
        return self.costs[first] - self.costs[second]

    @property
    def expected(self) -> str:
        """The injected cause as the confusion matrix names its row: a family, or none."""
        if not self.causes:
            return "none"
        return CAUSES[self.causes[0]].family if len(self.causes) == 1 else "mixture"

    @property
    def named(self) -> str:
        """The cause that perfkit names first, of those that could be saved; or none.

        The label and the parts of a mixed label come first, then the limiter. A late rank that
        computes longer counts with what it costs the others: `compute` is no cause otherwise.
        """
        told = [f for f in (self.label, *self.mixed_of) if f in SEVERITY_CUTS]
        if told:
            return max(told, key=lambda f: self.shares.get(f, 0.0))
        late = max((s for _, c, s in self.accused if c == "compute"), default=0.0)
        limit = self.shares.get(self.limiter or "", 0.0)
        if late > limit:
            return "compute"
        return self.limiter or "none"

    @property
    def named_rank(self) -> int:
        """The rank accused of the named cause."""
        found = [(s, r) for r, c, s in self.accused if FAMILY_OF[c] == self.named]
        return max(found)[1] if found else NOBODY


def outcome_of(
    analysis: Analysis,
    *,
    name: str,
    kind: str,
    seed: int,
    causes: tuple[str, ...],
    strength: str,
    injected_ms: float,
    step_ms: float,
    rank: int | None,
    costs: dict[str, float],
    elastic: str = "",
    lost: float = 0.0,
) -> Outcome:
    """Take from an analysis what is judged."""
    verdict, ranks = analysis.verdict, len(analysis.world.analysed_ranks)
    others = ranks / max(1, ranks - 1)
    blamed = {(b.rank, b.class_): b.ms * others for b in verdict.blame}
    accused = tuple(
        (s.rank, s.class_, blamed.get((s.rank, s.class_), 0.0) / step_ms)
        for s in analysis.stragglers
    )
    return Outcome(
        name=name,
        kind=kind,
        seed=seed,
        causes=causes,
        strength=strength,
        ranks=ranks,
        injected_ms=injected_ms,
        step_ms=step_ms,
        rank=NOBODY if rank is None else rank,
        costs=costs,
        elastic=elastic,
        label=verdict.label,
        mixed_of=verdict.mixed_of,
        dominant=verdict.dominant,
        limiter=verdict.limiter,
        confidence=verdict.confidence,
        tentative=verdict.tentative,
        status=analysis.quality.status,
        shares=verdict.rollup_after_blame,
        accused=accused,
        lost=lost,
    )


def label_is(outcome: Outcome) -> str:
    """Judge the label: right, wrong, or unsettled (mixed or undetermined though one cause leads).

    Where the first two causes are closer than the margin that perfkit asks for, or small changes
    of another family matter more, `mixed` is right. Within the tolerance of that margin both
    answers are; where the causes are that close, either is a matter of definition.
    """
    if outcome.label in UNSETTLED:
        torn = outcome.elastic not in {"", outcome.leaders[0]}
        return "right" if torn or outcome.margin < LEAST_MARGIN + TOLERANCE else "unsettled"
    leaders = {outcome.leaders[0]}
    if outcome.margin < 2 * TOLERANCE:
        leaders.add(outcome.leaders[1])
    return "right" if outcome.label in leaders else "wrong"


def rank_is(outcome: Outcome) -> str:
    """Judge the accusation: right, wrong (somebody innocent is accused), or missed."""
    accused = {rank for rank, _, _ in outcome.accused}
    if accused - {outcome.rank}:
        return "wrong"
    return "right" if accused or outcome.rank == NOBODY else "missed"


def cause_is(outcome: Outcome) -> str:
    """Judge the named cause of a single fault: right, wrong, or missed (none is named).

    Where another family truly costs more than the injected one, naming that one is right.
    """
    if outcome.named == outcome.expected:
        return "right"
    saving = {f: s for f, s in outcome.costs.items() if f != "compute"}
    if outcome.expected == "compute":
        saving["compute"] = outcome.injected_ms / outcome.step_ms
    best = saving.get(outcome.expected, 0.0)
    if saving.get(outcome.named, 0.0) >= best - TOLERANCE:
        return "right"
    return "missed" if outcome.named == "none" else "wrong"


def is_right(outcome: Outcome) -> bool:
    """Whether label, cause and rank are all right."""
    return (label_is(outcome), cause_is(outcome), rank_is(outcome)) == ("right",) * 3


def is_false_alarm(outcome: Outcome) -> bool:
    """Whether a fault-free run is blamed on a rank, or on a family that does not cost that much."""
    if outcome.accused or label_is(outcome) == "wrong":
        return True
    if outcome.limiter is None:
        return False
    moderate, _ = SEVERITY_CUTS[outcome.limiter]
    return outcome.costs[outcome.limiter] < moderate - TOLERANCE


def noise_of(fault_free: Iterable[Outcome]) -> dict[str, float]:
    """Return three standard deviations of each family's share over fault-free runs, by family.

    The deviation is of what perfkit reports less what is so: trainings differ by design.
    """
    runs = list(fault_free)
    return {
        family: NOISE_DEVIATIONS * stdev(o.shares.get(family, 0.0) - o.costs[family] for o in runs)
        for family in ROLLUP
        if len(runs) > 1
    }


def above_noise(outcome: Outcome, noise: dict[str, float]) -> bool:
    """Whether the injected time is beyond doubt: 3 deviations of its family and 5 % of the step."""
    share = outcome.injected_ms / outcome.step_ms
    families = {CAUSES[cause].family for cause in outcome.causes}
    return share >= max(LEAST_SHARE, *(noise.get(f, 0.0) for f in families))


def share_of(successes: int, trials: int) -> Proportion | None:
    """Return the share with its Wilson interval; None without trials."""
    found = wilson(successes, trials)
    return found if isinstance(found, Proportion) else None


BINS = ((0.0, 0.8), (0.8, 0.95), (0.95, 0.99), (0.99, 1.01))


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Runs whose confidence lies in [low, high): how sure perfkit was, how often it was right."""

    low: float
    high: float
    mean: float | None
    right: int
    trials: int


def calibrate(outcomes: Sequence[Outcome]) -> tuple[Bin, ...]:
    """Compare the confidence in the leading family with how often it truly leads."""
    bins = []
    for low, high in BINS:
        of_bin = [o for o in outcomes if o.confidence is not None and low <= o.confidence < high]
        bins.append(
            Bin(
                low=low,
                high=min(high, 1.0),
                mean=fmean(o.confidence or 0.0 for o in of_bin) if of_bin else None,
                right=sum(o.dominant == o.leaders[0] for o in of_bin),
                trials=len(of_bin),
            )
        )
    return tuple(bins)


def confusion(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Count the injected cause (row) by the cause that perfkit names (column)."""
    names = [*ROLLUP, "none"]
    table = {row: dict.fromkeys(names, 0) for row in names}
    for outcome in outcomes:
        table[outcome.expected][outcome.named] += 1
    return table

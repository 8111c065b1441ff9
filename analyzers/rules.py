"""What a rule of findings is made of, and the thresholds that all rules share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.finding_catalogue import entry_of
from perfkit.analyzers.result import Finding
from perfkit.analyzers.verdict import gain_ceiling

Rule = Callable[[Evidence], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which share of the step on a finding is moderate, and from which it is high."""

    moderate: float
    high: float

    def severity(self, share: float) -> str | None:
        """Return high or moderate, None below both."""
        if share >= self.high:
            return "high"
        return "moderate" if share >= self.moderate else None


INPUT = Thresholds(0.05, 0.20)  # XProf's cut-offs for input
COMMUNICATION = Thresholds(0.03, 0.15)  # XProf: device collectives
HOST = Thresholds(0.03, 0.15)  # XProf: kernel launch, all others
COPIES = Thresholds(0.03, 0.15)
PAUSES = Thresholds(0.01, 0.05)  # collections, allocator, compilation: rare events with easy cures
STRAGGLER = Thresholds(0.05, 0.20)  # excess over the median rank, of the step


def finding(  # noqa: PLR0913 - one value per field of the finding
    rule: str,
    severity: str,
    title: str,
    *,
    evidence: str,
    next_step: str,
    share: float | None = None,
    ranks: tuple[int, ...] = (),
) -> Finding:
    """Build a finding; `share` is what removing its cause could save, after blame.

    Its recipe and when it does not apply are in the catalogue.
    """
    entry = entry_of(rule)
    return Finding(
        id=rule,
        severity=severity,
        title=title,
        evidence=evidence,
        ranks=ranks,
        recipe=entry.recipe,
        gain_ceiling=gain_ceiling(share) if share is not None else None,
        next_step=next_step,
        not_when=entry.not_when,
    )


def affected(per_rank: dict[int, float]) -> tuple[int, ...]:
    """Return the ranks with at least half of the most affected rank's time."""
    most = max(per_rank.values(), default=0.0)
    return tuple(rank for rank, ms in per_rank.items() if most > 0 and ms >= 0.5 * most)

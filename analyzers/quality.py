"""How far a capture can be trusted, what it cannot tell, and what would let it.

Every flaw names what it costs. `error` makes the capture unusable and withholds the verdict,
`warning` degrades the claims it touches, `info` is worth knowing.
"""

from collections.abc import Iterator

from perfkit.analyzers.cannot_tell import cannot_tell
from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.result import Quality, QualityIssue
from perfkit.analyzers.steps import WholeRun
from perfkit.analyzers.verdict import TENTATIVE_BELOW
from perfkit.analyzers.withholding import not_told
from perfkit.trace.model import Issue

DILATION_LIMIT = 0.05
"""Above this slow-down by the profiler, host time is an upper bound (models.md 1.8)."""
UNMATCHED_LIMIT = 0.05


def assess(evidence: Evidence) -> Quality:
    """Judge a capture."""
    issues = tuple(_unique([*_recorded(evidence), *_derived(evidence)]))
    severities = {issue.severity for issue in issues}
    status = "ok"
    if "warning" in severities:
        status = "degraded"
    if "error" in severities:
        status = "unusable"
    codes = frozenset(issue.code for issue in issues if issue.severity != "info")
    limits = (*cannot_tell(evidence), *not_told(codes))
    return Quality(status=status, issues=issues, cannot_tell=limits)


def _unique(issues: list[QualityIssue]) -> list[QualityIssue]:
    """Join issues that say the same of several ranks."""
    joined: dict[tuple[str, str, str], set[int]] = {}
    for issue in issues:
        joined.setdefault((issue.code, issue.severity, issue.message), set()).update(issue.ranks)
    return [
        QualityIssue(code=code, severity=severity, message=message, ranks=tuple(sorted(ranks)))
        for (code, severity, message), ranks in joined.items()
    ]


def _recorded(evidence: Evidence) -> Iterator[QualityIssue]:
    sources: list[tuple[tuple[Issue, ...], tuple[int, ...]]] = [(evidence.run.issues, ())]
    sources += [(record.issues, (record.rank,)) for record in evidence.run.ranks]
    sources += [(survey.issues, (survey.rank,)) for survey in evidence.surveys.values()]
    for issues, ranks in sources:
        for issue in issues:
            yield QualityIssue(
                code=issue.code,
                severity=issue.severity,
                message=issue.message,
                ranks=issue.ranks or ranks,
            )


def _derived(evidence: Evidence) -> Iterator[QualityIssue]:
    yield from _of_ranks(evidence)
    yield from _of_steps(evidence)
    yield from _of_matching(evidence)
    yield from _of_the_host(evidence)


def _of_ranks(evidence: Evidence) -> Iterator[QualityIssue]:
    """Report ranks that left nothing at all, unless the reader did so already."""
    missing = evidence.missing_ranks
    if missing and "RANKS_MISSING" not in {issue.code for issue in evidence.run.issues}:
        yield QualityIssue(
            code="RANKS_MISSING",
            severity="warning",
            message=f"{len(missing)} of {evidence.run.world_size} ranks were not captured: "
            "their part in waits and who was late cannot be told",
            ranks=missing,
        )


def _of_steps(evidence: Evidence) -> Iterator[QualityIssue]:
    steps, whole = evidence.steps, evidence.whole
    if evidence.surveys and not steps:
        yield QualityIssue(
            code="NO_COMMON_STEP",
            severity="error",
            message="no step was captured whole on all ranks: there is nothing to compare",
        )
    elif evidence.surveys and len(steps) < TENTATIVE_BELOW:
        yield QualityIssue(
            code="FEW_STEPS",
            severity="info",
            message=f"{len(steps)} steps analysed: the verdict is tentative below "
            f"{TENTATIVE_BELOW}",
        )
    yield from _of_different_windows(evidence)
    unsteady = tuple(r for r, s in evidence.surveys.items() if not s.windows.stationary)
    if unsteady:
        yield QualityIssue(
            code="NON_STATIONARY",
            severity="warning",
            message="device steps and host steps differ in mean length by more than 2 %: the "
            "device was catching up or falling behind during the window",
            ranks=unsteady,
        )
    yield from _of_the_whole_run(evidence, whole)


def _of_different_windows(evidence: Evidence) -> Iterator[QualityIssue]:
    """Say that some ranks captured more steps than others (--max-bytes, a rank that ended)."""
    counts = {rank: len(survey.windows.step) for rank, survey in evidence.surveys.items()}
    fewest, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if fewest == most or not evidence.steps:
        return
    yield QualityIssue(
        code="WINDOWS_DIFFER",
        severity="info",
        message=f"the ranks captured from {fewest} to {most} whole steps: only steps that all "
        "have are analysed",
        ranks=tuple(rank for rank, count in counts.items() if count == fewest),
    )


def _of_the_whole_run(evidence: Evidence, whole: WholeRun) -> Iterator[QualityIssue]:
    """Compare the traced window with the step lines of the run around it."""
    if not whole.settled:
        yield QualityIssue(
            code="PACE_NOT_SETTLED",
            severity="info",
            message="step times kept changing over the run: medians describe no steady pace",
        )
    if whole.not_representative:
        yield QualityIssue(
            code="WINDOW_NOT_REPRESENTATIVE",
            severity="warning",
            message="the traced window differs from the run in "
            + ", ".join(_DIFFERS[name] for name in whole.not_representative)
            + ": shares of input and checkpoint in the verdict are those of the whole run",
        )
    if whole.dilation is not None and whole.dilation > DILATION_LIMIT:
        yield QualityIssue(
            code="PROFILER_DILATION",
            severity="warning",
            message=f"profiled steps took {whole.dilation:.0%} longer than unprofiled ones: host "
            + ("time is" if evidence.on_device else "and compute time are")
            + " an upper bound",
        )


_DIFFERS = {"median": "step time", "input": "input wait", "checkpoint": "checkpoint time"}


def _of_matching(evidence: Evidence) -> Iterator[QualityIssue]:
    matched = evidence.matched
    calls = matched.by_sequence + matched.by_order + matched.unmatched
    if matched.by_order:
        yield QualityIssue(
            code="MATCHED_BY_ORDER",
            severity="info",
            message=f"{matched.by_order} of {calls} collective calls carry no sequence number and "
            "were matched by their order and size within each step",
        )
    alone = len(evidence.surveys) < evidence.run.world_size
    if matched.unmatched > UNMATCHED_LIMIT * max(calls, 1) and not alone:
        yield QualityIssue(
            code="COLLECTIVES_UNMATCHED",
            severity="warning",
            message=f"{matched.unmatched} of {calls} collective calls could not be matched across "
            "ranks: their wait cannot be told from their transfer",
        )
    yield from _of_clocks(evidence)


def _of_clocks(evidence: Evidence) -> Iterator[QualityIssue]:
    for check in evidence.clock_checks:
        if check.suspect:
            yield QualityIssue(
                code="CLOCK_SUSPECT",
                severity="warning",
                message=f"the clock of {check.domain} cannot be aligned: {check.why}; waits in "
                "broadcasts and other one-sided operations with it stay unknown, and the timeline "
                "is not aligned (all-reduces and their blame need no clocks)",
            )
    if evidence.unsure_late:
        yield QualityIssue(
            code="STRAGGLER_WITHHELD",
            severity="info",
            message="a rank seems late, but by less than the ends of collectives agree: nobody is "
            "named",
            ranks=evidence.unsure_late,
        )
    for clock in evidence.clocks:
        if clock.offset_ns is None:
            yield QualityIssue(
                code="CLOCK_NOT_ALIGNED",
                severity="info",
                message=f"no collective shows the clock offset of {clock.domain}: its lanes in "
                "the timeline are not aligned (the budget and blame need no clocks)",
            )


def _of_the_host(evidence: Evidence) -> Iterator[QualityIssue]:
    """Compare compute threads with cores, on CPU runs, for the ranks of one node."""
    if evidence.on_device:
        return
    threads: dict[str, int] = {}
    cores: dict[str, int] = {}
    ranks: dict[str, list[int]] = {}
    for record in evidence.run.ranks:
        own, available = fact(record, "threads"), fact(record, "cpus_available")
        node = str(fact(record, "clock_domain") or fact(record, "node") or "")
        if isinstance(own, int) and isinstance(available, int):
            threads[node] = threads.get(node, 0) + own
            cores[node] = max(cores.get(node, 0), available)
            ranks.setdefault(node, []).append(record.rank)
    for node, count in threads.items():
        if count > cores[node] > 0:
            yield QualityIssue(
                code="OVERSUBSCRIBED",
                severity="info",
                message=f"{count} compute threads share {cores[node]} cores: compute and "
                "communication take time from each other, and hiding one under the other gains "
                "less than it seems",
                ranks=tuple(ranks[node]),
            )

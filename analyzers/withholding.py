"""What a flawed capture may still claim: each flaw lowers or withholds what it undermines, no more.

EVENTS_DROPPED, GRAPH_UNDER_RECORDED  idle time may be false: no verdict `host`, no findings on idle
ZERO_TIME_EVENTS                      both: no verdict `host`, no findings on idle or on sums
OVERLAPPING_EVENTS                    sums over kernels are false: no findings that rest on them
NON_STATIONARY                        steps are not alike: no confidence
PROFILER_DILATION                     `host` may be the profiler's: only if it leads without it
CLOCK_SUSPECT                         clocks: waits of one-sided operations unknown (clock_check.py)
"""

from collections.abc import Iterator
from dataclasses import replace

from perfkit.analyzers.result import CannotTell, Finding, Quality
from perfkit.analyzers.trace_flaws import DROPPED, GRAPH_CUT, OVERLAPPING, ZERO_TIME
from perfkit.analyzers.verdict import FAMILIES, Decision

IDLE_FINDINGS = frozenset({"launch_bound", "host_syncs", "allocator"})
SUM_FINDINGS = frozenset({"fp32_matmul", "unfused_optimizer", "pageable_copies"})
IDLE_FLAWS = frozenset({DROPPED, GRAPH_CUT, ZERO_TIME})
SUM_FLAWS = frozenset({OVERLAPPING, ZERO_TIME})
FALSE_IDLE = "device_idle_uncertain"
DILATED = "profiler_dilation"
PROFILE_LESS = "perfkit profile --window 10:12 -- CMD"


def codes_of(quality: Quality) -> frozenset[str]:
    """Return the codes of the issues that degrade a capture."""
    return frozenset(i.code for i in quality.issues if i.severity != "info")


def lower(decision: Decision, quality: Quality, dilation: float | None) -> Decision:
    """Return the decision as far as the capture supports it.

    dilation: by which share profiled steps are longer than unprofiled ones; None: not known.
    """
    codes = codes_of(quality)
    if decision.label == "host" and codes & IDLE_FLAWS:
        return replace(
            decision, label="undetermined", reason=FALSE_IDLE, dominant=None, limiter=None,
            margin=None, confidence=None,
        )  # fmt: skip
    if "NON_STATIONARY" in codes:
        decision = replace(decision, confidence=None)
    if decision.label == "host" and "PROFILER_DILATION" in codes and dilation:
        second = _leader_without(decision, dilation / (1.0 + dilation))
        if second != "host":
            return replace(decision, label="mixed", mixed_of=("host", second), reason=DILATED)
    return decision


def _leader_without(decision: Decision, added: float) -> str:
    """Return the largest family if all that the profiler added was host time."""
    shares = decision.shares | {"host": decision.shares["host"] - added}
    return max(FAMILIES, key=lambda f: shares[f])


def supported(findings: tuple[Finding, ...], quality: Quality) -> tuple[Finding, ...]:
    """Leave findings out that rest on what a flaw spoils."""
    codes = codes_of(quality)
    spoilt: frozenset[str] = frozenset()
    if codes & IDLE_FLAWS:
        spoilt |= IDLE_FINDINGS
    if codes & SUM_FLAWS:
        spoilt |= SUM_FINDINGS
    return tuple(f for f in findings if f.id not in spoilt)


def not_told(codes: frozenset[str]) -> Iterator[CannotTell]:
    """Say what the flaws withhold."""
    if codes & IDLE_FLAWS:
        yield CannotTell(
            claim="how long the device was idle, and whether the host is the reason",
            why="kernels that ran are missing from the trace, or without their duration",
            remedy=f"record fewer steps at a time: {PROFILE_LESS}",
        )
    if codes & SUM_FLAWS:
        yield CannotTell(
            claim="time by kernel",
            why="kernels of one stream overlap in the trace, so that their sums count time twice"
            if OVERLAPPING in codes
            else "kernels have no duration, so that their sums are too small",
            remedy=f"record fewer steps at a time: {PROFILE_LESS}",
        )
    if "NON_STATIONARY" in codes:
        yield CannotTell(
            claim="how sure the verdict is",
            why="the device was catching up or falling behind, so that steps are not alike",
            remedy="profile a later or longer window: perfkit profile --window 20:39 -- CMD",
        )

"""Flawed captures: each flaw is seen, and takes back what it undermines and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis, Quality, QualityIssue
from perfkit.analyzers.verdict import Decision
from perfkit.analyzers.withholding import lower
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, RankTrace
from tests.builders import (
    Item,
    StepItem,
    input_wait,
    kernel,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
)

STEPS = 12


def launching(
    *, kernel_ms: float = 3.0, kernels: int = 10, graph: bool = False, loader_ms: float = 0.0
) -> RankTrace:
    """A device run of 100 ms steps: a loader, then kernels every (100 - loader) / n ms."""
    items: list[Item | StepItem] = []
    for k in range(STEPS + 1):
        t, every = 100.0 * k, (100.0 - loader_ms) / kernels
        items.append(step(k, at_ms=t, ms=100))
        if loader_ms:
            items.append(input_wait(at_ms=t, ms=loader_ms))
        for n in range(kernels):
            at = t + loader_ms + n * every
            items.append(op("aten::mul", at_ms=at, ms=every * 0.9))
            name = f"graph {k}" if graph else ""
            items.append(kernel("k", at_ms=at + 0.5, ms=kernel_ms, launch_ms=0.01,
                                launched_at_ms=at + 0.4, graph=name))  # fmt: skip
    return rank_trace(*items)


def without(trace: RankTrace, drop: Callable[[int, int], bool]) -> RankTrace:
    """Leave out the kernels for which drop(step, number within the step) holds."""
    events = trace.events
    seen: dict[int, int] = {}
    keep = np.ones(len(events), dtype=np.bool_)
    for row in np.flatnonzero(events.kind == Kind.KERNEL).tolist():
        of_step = int(events.step[row])
        number = seen.get(of_step, 0)
        seen[of_step] = number + 1
        keep[row] = not drop(of_step, number)
    place = np.cumsum(keep) - 1
    columns = {
        name: getattr(events, name)[keep]
        for name in events.__dataclass_fields__
        if name not in ("names", "shapes")
    }
    for name in ("launch", "op"):
        old = columns[name]
        columns[name] = np.where(old == NONE, NONE, place[old]).astype(np.int32)
    return replace(trace, events=replace(events, **columns))


def analysed(trace: RankTrace) -> Analysis:
    run, load = run_of(trace)
    return analyze(run, load)


def codes(analysis: Analysis) -> set[str]:
    return {i.code for i in analysis.quality.issues}


def test_a_whole_trace_of_an_idle_device_is_host_bound() -> None:
    analysis = analysed(launching())
    assert analysis.verdict.label == "host"
    assert "launch_bound" in {f.id for f in analysis.findings}
    assert not codes(analysis) & {"EVENTS_DROPPED", "OVERLAPPING_EVENTS", "GRAPH_UNDER_RECORDED"}


def test_dropped_kernels_take_the_host_verdict_back() -> None:
    analysis = analysed(without(launching(kernel_ms=6.0), lambda _, n: n % 2 == 0))
    assert "EVENTS_DROPPED" in codes(analysis) and analysis.quality.status == "degraded"
    message = next(i.message for i in analysis.quality.issues if i.code == "EVENTS_DROPPED")
    assert message.startswith("50% of the kernels that were launched")
    assert (analysis.verdict.label, analysis.verdict.reason) == (
        "undetermined",
        "device_idle_uncertain",
    )
    assert "launch_bound" not in {f.id for f in analysis.findings}
    assert any("how long the device was idle" in c.claim for c in analysis.quality.cannot_tell)


def test_dropped_kernels_leave_the_input_verdict_alone() -> None:
    """The loader's time does not rest on kernels: 70 of 100 ms stay 70 of 100 ms."""
    trace = without(launching(kernel_ms=2.0, loader_ms=70.0), lambda _, n: n in (3, 5))
    analysis = analysed(trace)
    assert "EVENTS_DROPPED" in codes(analysis)
    assert analysis.verdict.label == "io"
    assert "slow_loader" in {f.id for f in analysis.findings}


def instant(trace: RankTrace, every: int) -> RankTrace:
    """Take the duration from every n-th kernel, as a profiler that lost their ends."""
    events = trace.events
    kernels = np.flatnonzero(events.kind == Kind.KERNEL)[::every]
    end = events.end_ns.copy()
    end[kernels] = events.start_ns[kernels]
    return replace(trace, events=replace(events, duration_ns=end - events.start_ns))


def test_kernels_without_duration_take_the_host_verdict_back_and_sums_too() -> None:
    analysis = analysed(instant(launching(kernel_ms=6.000123), 2))
    assert "ZERO_TIME_EVENTS" in codes(analysis) and analysis.quality.status == "degraded"
    message = next(i.message for i in analysis.quality.issues if i.code == "ZERO_TIME_EVENTS")
    assert message.startswith("50% of the kernels have no duration")
    assert analysis.verdict.label != "host"
    claims = {c.claim for c in analysis.quality.cannot_tell}
    assert "time by kernel" in claims and any("device was idle" in c for c in claims)


def test_kernels_without_duration_leave_the_input_verdict_alone() -> None:
    analysis = analysed(instant(launching(kernel_ms=2.000123, loader_ms=70.0), 10))
    assert "ZERO_TIME_EVENTS" in codes(analysis)
    assert analysis.verdict.label == "io"


def test_durations_rounded_to_microseconds_are_no_flaw() -> None:
    assert "ZERO_TIME_EVENTS" not in codes(analysed(instant(launching(kernel_ms=6.0), 2)))


def test_a_few_dropped_kernels_are_no_flaw() -> None:
    analysis = analysed(without(launching(), lambda s, n: s == 3 and n == 0))
    assert "EVENTS_DROPPED" not in codes(analysis)


def test_a_graph_that_was_recorded_in_part_is_seen() -> None:
    whole = analysed(launching(graph=True))
    assert "GRAPH_UNDER_RECORDED" not in codes(whole)
    cut = analysed(without(launching(graph=True), lambda s, n: s % 3 == 0 and n > 2))
    assert "GRAPH_UNDER_RECORDED" in codes(cut)
    assert cut.verdict.label != "host"


def test_overlap_within_a_stream_spoils_sums_and_not_the_budget() -> None:
    items: list[Item | StepItem] = []
    for k in range(STEPS + 1):
        t = 100.0 * k
        items += [
            step(k, at_ms=t, ms=100),
            kernel("ampere_sgemm_128x64_tn", at_ms=t, ms=60),
            kernel("ampere_sgemm_128x64_tn", at_ms=t + 40, ms=60),
        ]
    trace = rank_trace(*items)
    able = replace(trace, devices=(replace(trace.devices[0], compute_capability="8.0"),))
    analysis = analysed(able)
    assert "OVERLAPPING_EVENTS" in codes(analysis)
    assert analysis.budget.rollup["compute"] == pytest.approx(1.0)
    assert analysis.verdict.label == "compute"
    assert "fp32_matmul" not in {f.id for f in analysis.findings}


def test_steps_that_are_missing_within_the_window_are_counted() -> None:
    items: list[Item | StepItem] = []
    for k in range(STEPS):
        items += [
            step(k, at_ms=100.0 * k, ms=100, complete=k != 5),
            op("aten::mm", at_ms=100.0 * k, ms=99),
        ]
    analysis = analysed(rank_trace(*items, device_kind="cpu"))
    (issue,) = [i for i in analysis.quality.issues if i.code == "STEPS_MISSING"]
    assert issue.message.startswith("1 steps inside the window")
    apart = [i for i in items if not (isinstance(i, StepItem) and 3 <= i.index <= 8)]
    assert "STEPS_MISSING" not in codes(analysed(rank_trace(*apart, device_kind="cpu")))


def test_a_device_that_falls_behind_has_no_confidence() -> None:
    """Device steps of 110 ms behind host steps of 100 ms."""
    items: list[Item | StepItem] = []
    for k in range(STEPS + 1):
        items += [
            step(k, at_ms=100.0 * k, ms=100),
            kernel("gemm", at_ms=110.0 * k, ms=105, launched_at_ms=100.0 * k),
        ]
    analysis = analysed(rank_trace(*items))
    assert "NON_STATIONARY" in codes(analysis)
    assert analysis.verdict.label == "compute" and analysis.verdict.confidence is None
    assert any(c.claim == "how sure the verdict is" for c in analysis.quality.cannot_tell)


def quality(*found: str) -> Quality:
    issues = tuple(QualityIssue(code=c, severity="warning", message="") for c in found)
    return Quality(status="degraded", issues=issues, cannot_tell=())


HOST = Decision(
    label="host",
    dominant="host",
    margin=0.15,
    confidence=1.0,
    shares={"host": 0.50, "compute": 0.35, "communication": 0.10, "io": 0.05},
)


def test_host_leads_only_if_it_does_without_the_profiler() -> None:
    dilated = quality("PROFILER_DILATION")
    assert lower(HOST, dilated, 0.10) == HOST, "0.50 - 0.09 is still the most"
    mixed = lower(HOST, dilated, 0.25)
    assert (mixed.label, mixed.mixed_of, mixed.reason) == (
        "mixed",
        ("host", "compute"),
        "profiler_dilation",
    )
    compute = replace(HOST, label="compute", dominant="compute")
    assert lower(compute, dilated, 0.25) == compute


def test_dilation_reaches_the_verdict_of_a_run() -> None:
    """Profiled steps of 100 ms, 55 of them host; unprofiled ones take 80 ms."""
    items: list[Item | StepItem] = []
    for k in range(STEPS):
        items += [step(k, at_ms=100.0 * k, ms=100), op("aten::mm", at_ms=100.0 * k, ms=45)]
    trace = rank_trace(*items, device_kind="cpu")
    lines = step_lines([100.0] * STEPS + [80.0] * 40, profiled=range(STEPS))
    run, load = run_of(trace, lines={0: lines})
    analysis = analyze(run, load)
    assert (analysis.verdict.label, analysis.verdict.reason) == ("mixed", "profiler_dilation")
    assert "the profiler's own cost" in analysis.verdict.sentence


def test_a_good_capture_loses_nothing() -> None:
    assert lower(HOST, Quality(status="ok", issues=(), cannot_tell=()), None) == HOST

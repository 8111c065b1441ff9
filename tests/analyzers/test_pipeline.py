"""From a run to its analysis: what goes wrong in a run, and what the parts must agree on."""

from dataclasses import replace
from functools import partial

import msgspec
import pytest

from perfkit.analyzers.analysis import analyze, decode, encode
from perfkit.analyzers.result import Analysis
from perfkit.errors import InputError
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import Issue, RankRecord, RankTrace, Run
from tests.analyzers import example_a
from tests.analyzers.test_slow_loader import cpu_rank, gpu_rank
from tests.builders import gloo, kernel, nccl, op, rank_record, rank_trace, run_of, step, step_lines


def codes(analysis: Analysis) -> dict[str, str]:
    return {issue.code: issue.severity for issue in analysis.quality.issues}


def never(record: RankRecord) -> RankTrace:
    raise AssertionError(f"nothing to load of {record.rank}")


def example_load(record: RankRecord) -> RankTrace:
    """Load example A by rank; at module level, so that other processes can call it."""
    return (example_a.rank0, example_a.rank1)[record.rank]()


def unreadable(broken: int, record: RankRecord) -> RankTrace:
    if record.rank == broken:
        raise InputError("rank1.json.gz: cut off", hint="capture again")
    return cpu_rank(record.rank, slow=False)


def test_processes_give_the_same_bytes() -> None:
    run, _ = run_of(example_a.rank0(), example_a.rank1())
    seen: list[int] = []
    in_one = analyze(run, example_load, on_rank=seen.append)
    in_two = analyze(run, example_load, jobs=2)
    assert encode(in_one) == encode(in_two)
    assert seen == [0, 1]


def test_an_analysis_survives_its_file() -> None:
    run, load = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=True))
    analysis = analyze(run, load)
    assert decode(encode(analysis)) == analysis
    document = msgspec.json.decode(encode(analysis))
    assert document["verdict"]["blame"][0]["class"] == "input_wait"
    assert document["budget"]["classes"]["launch_latency"] is None


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b'{"schema_version": "x"}'])
def test_what_is_no_analysis_is_one_clear_line(data: bytes) -> None:
    with pytest.raises(InputError, match="not an analysis"):
        decode(data)


def test_shares_are_of_all_windows_and_families_sum_to_one() -> None:
    run, load = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=True))
    analysis = analyze(run, load)
    known = [c for c in analysis.budget.classes.values() if c is not None]
    assert sum(c.share for c in known) == pytest.approx(1.0)
    assert sum(analysis.budget.rollup.values()) == pytest.approx(1.0)
    assert sum(analysis.verdict.rollup_after_blame.values()) == pytest.approx(1.0)
    assert sum(c.ms for c in known) == pytest.approx(100.0)
    blamed = sum(b.ms for b in analysis.verdict.blame)
    wait = analysis.budget.classes["comm_wait"]
    assert wait is not None and blamed == pytest.approx(wait.ms)
    for budget in analysis.budget.per_step:
        assert sum(budget.classes_ms.values()) == pytest.approx(budget.window_ms)
    assert len(analysis.budget.per_step) == 2 * analysis.steps.analysed


def test_one_unreadable_trace_does_not_cost_the_others_theirs() -> None:
    run, _ = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=False))
    analysis = analyze(run, partial(unreadable, 1))
    assert analysis.world.analysed_ranks == (0,)
    assert codes(analysis)["TRACE_UNREADABLE"] == "warning"
    assert "TRACES_MISSING" not in codes(analysis), "said once"
    wait = analysis.budget.classes["comm_wait"]
    assert wait is None, "a single rank of two cannot tell wait from transfer"


def test_nothing_readable_is_the_readers_error() -> None:
    run, _ = run_of(cpu_rank(0, slow=False))
    with pytest.raises(InputError, match="cut off"):
        analyze(run, partial(unreadable, 0))


def test_an_empty_run_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no rank"):
        analyze(Run(run_id="x", path=None, ranks=()), never)
    bare = rank_record(0, 1, traced=False)
    with pytest.raises(InputError, match="no rank recorded a whole step"):
        analyze(Run(run_id="x", path=None, ranks=(bare,)), never)


def test_missing_ranks_and_what_the_reader_found_are_named() -> None:
    run, load = run_of(cpu_rank(0, slow=False))
    flaw = Issue(code="RANK_KILLED", severity="warning", message="left no end record")
    killed = replace(run.ranks[0], ended="killed", issues=(flaw,))
    analysis = analyze(replace(run, ranks=(killed,)), load)
    found = {issue.code: issue.ranks for issue in analysis.quality.issues}
    assert found["RANKS_MISSING"] == (1,)
    assert found["RANK_KILLED"] == (0,)
    assert analysis.quality.status == "degraded"
    assert any("late rank" in c.claim for c in analysis.quality.cannot_tell)


def test_an_unusable_capture_withholds_the_verdict() -> None:
    trace = replace(
        cpu_rank(0, slow=False),
        issues=(Issue(code="TIMES_BROKEN", severity="error", message="all times are zero"),),
    )
    run, load = run_of(trace, cpu_rank(1, slow=False))
    analysis = analyze(run, load)
    assert analysis.quality.status == "unusable"
    assert (analysis.verdict.label, analysis.verdict.reason) == (
        "undetermined",
        "capture_unusable",
    )
    assert analysis.verdict.dominant is None


def test_of_windows_that_differ_the_common_steps_are_analysed() -> None:
    """As --max-bytes leaves them: a rank whose steps are larger has room for fewer."""
    whole, cut = (
        rank_trace(
            *(step(k, at_ms=100 * k, ms=100) for k in steps),
            *(op("aten::mm", at_ms=100 * k, ms=60) for k in steps),
            rank=rank,
            world_size=2,
            device_kind="cpu",
        )
        for rank, steps in ((0, range(1, 11)), (1, range(1, 9)))
    )
    run, load = run_of(whole, cut)
    analysis = analyze(run, load)
    assert analysis.steps.analysed == 8
    compute = analysis.budget.classes["compute"]
    assert compute is not None and compute.ms == pytest.approx(60)
    (issue,) = (i for i in analysis.quality.issues if i.code == "WINDOWS_DIFFER")
    assert (issue.severity, issue.ranks) == ("info", (1,))
    assert "from 8 to 10 whole steps" in issue.message
    alike, load = run_of(whole, replace(whole, rank=1))
    assert "WINDOWS_DIFFER" not in codes(analyze(alike, load))


def test_ranks_without_a_common_step_are_not_compared() -> None:
    early, late = (
        rank_trace(
            *(step(k, at_ms=100 * k, ms=100) for k in steps),
            op("aten::mm", at_ms=100 * steps[0], ms=300),
            rank=rank,
            world_size=2,
            device_kind="cpu",
        )
        for rank, steps in ((0, (1, 2, 3)), (1, (7, 8, 9)))
    )
    run, load = run_of(early, late)
    analysis = analyze(run, load)
    assert codes(analysis)["NO_COMMON_STEP"] == "error"
    assert analysis.verdict.label == "undetermined"
    assert analysis.timeline is None


def test_only_steps_that_all_ranks_have_are_analysed() -> None:
    run, load = run_of(cpu_rank(0, slow=False, steps=12), cpu_rank(1, slow=False, steps=9))
    analysis = analyze(run, load)
    assert analysis.steps.analysed == 9
    assert {b.step for b in analysis.budget.per_step} == set(range(9))


def test_steps_with_an_evaluation_are_left_out() -> None:
    lines = {r: step_lines([100.0] * 12, eval_steps=[4], profiled=range(12)) for r in (0, 1)}
    run, load = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=False), lines=lines)
    analysis = analyze(run, load)
    assert analysis.steps.analysed == 11
    assert 4 not in {b.step for b in analysis.budget.per_step}
    assert analysis.steps.eval_steps == 1


def test_io_of_the_whole_run_corrects_a_window_that_missed_it() -> None:
    saved = dict.fromkeys(range(20, 100, 2), 200.0)
    ms = [300.0 if k in saved else 100.0 for k in range(100)]
    lines = {r: step_lines(ms, checkpoint_ms=saved, profiled=range(12)) for r in (0, 1)}
    run, load = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=False), lines=lines)
    analysis = analyze(run, load)
    assert codes(analysis)["WINDOW_NOT_REPRESENTATIVE"] == "warning"
    window = analysis.budget.classes["checkpoint"]
    assert window is not None and window.share == 0.0
    assert analysis.steps.checkpoint_share == pytest.approx(0.45, abs=0.05)
    assert analysis.verdict.rollup_after_blame["io"] == pytest.approx(0.46, abs=0.05)
    assert any(f.id == "checkpoint_stall" for f in analysis.findings)


def test_dilation_and_oversubscription_are_said() -> None:
    ms = [100.0 if k < 12 else 60.0 for k in range(60)]
    lines = {r: step_lines(ms, profiled=range(12)) for r in (0, 1)}
    facts = {r: {"threads": 2, "cpus_available": 2, "clock_domain": "a"} for r in (0, 1)}
    run, load = run_of(cpu_rank(0, slow=False), cpu_rank(1, slow=False), lines=lines, facts=facts)
    analysis = analyze(run, load)
    found = codes(analysis)
    assert found["PROFILER_DILATION"] == "warning"
    assert found["OVERSUBSCRIBED"] == "info"
    dilated = next(i for i in analysis.quality.issues if i.code == "PROFILER_DILATION")
    assert "67% longer" in dilated.message and "compute" in dilated.message
    assert any(f.id == "profiler_overhead" for f in analysis.findings)


def test_timeline_gives_a_collective_one_number_on_all_ranks() -> None:
    run, load = run_of(gpu_rank(0, slow=False), gpu_rank(1, slow=True, clock_ms=5.0))
    timeline = analyze(run, load).timeline
    assert timeline is not None and timeline.aligned
    spans = {
        lane.rank: [(s.class_, s.collective) for s in lane.spans]
        for lane in timeline.lanes
        if lane.lane == "communication"
    }
    number = spans[1][0][1]
    assert number is not None
    assert spans[0] == [("comm_wait", number), ("comm_transfer", number)]
    assert spans[1] == [("comm_transfer", number)]
    ends = {
        lane.rank: lane.spans[-1].start_us + lane.spans[-1].duration_us
        for lane in timeline.lanes
        if lane.lane == "communication"
    }
    assert ends[0] == pytest.approx(ends[1], abs=1.0), "clocks are aligned on ends"
    assert {lane.lane for lane in timeline.lanes} == {"compute", "communication", "input", "host"}


def test_a_lane_holds_at_most_two_thousand_marks_and_loses_no_event() -> None:
    many = [kernel(f"k{n % 7}", at_ms=0.01 * n, ms=0.005) for n in range(5000)]
    run, load = run_of(rank_trace(step(0, at_ms=0, ms=60), *many))
    timeline = analyze(run, load).timeline
    assert timeline is not None and timeline.merged
    lane = next(lane for lane in timeline.lanes if lane.lane == "compute")
    assert len(lane.spans) == 2000
    assert sum(s.events for s in lane.spans) == 5000
    starts = [s.start_us for s in lane.spans]
    assert starts == sorted(starts)


def test_operators_are_ranked_by_self_time() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=100),
        op("aten::linear", at_ms=0, ms=50),
        op("aten::addmm", at_ms=5, ms=40),
        op("aten::relu", at_ms=60, ms=8),
        device_kind="cpu",
    )
    run, load = run_of(trace)
    rows = {r.name: (r.kind, r.ms, r.count) for r in analyze(run, load).operators}
    assert rows == {
        "aten::addmm": ("operator", 40.0, 1.0),
        "aten::linear": ("operator", 10.0, 1.0),
        "aten::relu": ("operator", 8.0, 1.0),
    }


def test_kernels_are_summed_by_name() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=50),
        step(1, at_ms=50, ms=50),
        step(2, at_ms=100, ms=50),
        *(kernel("gemm", at_ms=10 * n, ms=4) for n in range(11)),
        nccl("all_reduce", at_ms=5, ms=1),
    )
    run, load = run_of(trace)
    rows = {r.name: r for r in analyze(run, load).operators}
    assert rows["gemm"].count == 5.0
    assert rows["gemm"].ms == 20.0
    assert rows["gemm"].share == pytest.approx(0.4)
    assert rows["ncclDevKernel_all_reduce"].kind == "collective"


def test_collectives_under_way_at_once_count_once() -> None:
    """Gloo runs two at a time: 60 and 70 ms, of which 40 are the same, a broadcast in them."""
    trace = rank_trace(
        step(0, at_ms=0, ms=100),
        op("aten::mm", at_ms=0, ms=5),
        gloo("all_reduce", at_ms=10, ms=60, sequence=1),
        gloo("all_reduce", at_ms=30, ms=70, sequence=2),
        gloo("broadcast", at_ms=20, ms=10, sequence=3),
        device_kind="cpu",
    )
    run, load = run_of(trace)
    rows = {r.name: (r.count, r.ms, r.share) for r in analyze(run, load).operators}
    assert rows["gloo:all_reduce"] == (2.0, 90.0, 0.9)
    assert rows["gloo:broadcast"] == (1.0, 10.0, 0.1)


def test_run_facts_come_from_parent_and_ranks() -> None:
    node = {
        "command_line": "torchrun train.py",
        "launcher": "torchrun",
        "started_unix_ns": 1_760_000_000_000_000_000,
        "exit_status": 3,
        "hostname": "box",
    }
    model = {"class": "GPT", "parameters": 1_000_000, "parameter_bytes": 4_000_000}
    run, load = run_of(
        cpu_rank(0, slow=False),
        facts={0: {"torch": "2.13.0", "model": model}},
        node_facts=node,
    )
    facts = analyze(run, load).run
    assert (facts.command, facts.launcher, facts.exit_status) == (
        "torchrun train.py",
        "torchrun",
        3,
    )
    assert facts.started_utc == "2025-10-09 08:53:20"
    assert facts.hosts == ("box",)
    assert facts.model == "GPT, 1 M parameters, 3.81 MiB"
    assert facts.torch == "2.13.0"


def test_unrecorded_classes_are_null_and_explained() -> None:
    trace = rank_trace(
        step(0, at_ms=0, ms=10), op("aten::mm", at_ms=0, ms=9), device_kind="cpu", recorders=()
    )
    run, load = run_of(trace)
    analysis = analyze(run, load)
    null = {name for name, found in analysis.budget.classes.items() if found is None}
    assert null == {
        c.key
        for c in (
            TimeClass.MEMCPY,
            TimeClass.INPUT_WAIT,
            TimeClass.CHECKPOINT,
            TimeClass.HOST_GC,
            TimeClass.HOST_COMPILE,
            TimeClass.HOST_SYNC,
            TimeClass.HOST_ALLOC,
            TimeClass.LAUNCH_LATENCY,
            TimeClass.IDLE_DEPENDENCY,
        )
    }
    claims = {c.claim for c in analysis.quality.cannot_tell}
    assert {"waiting for input", "checkpoint time", "garbage collection"} <= claims

"""The way from a read run to its analysis: survey each rank, join them, judge.

Ranks are surveyed one at a time (or `jobs` at a time in processes of their own) and only the small
survey of each is kept, so memory is bounded by the ranks in flight. The same run gives the same
bytes: the bootstrap's seed comes from the run's id and nothing asks for the time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from perfkit.analyzers.clock_check import clock_rows
from perfkit.analyzers.efficiency_reading import read_efficiency
from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.findings import find
from perfkit.analyzers.gather import gather, whole_run_shift
from perfkit.analyzers.groups import size_rows
from perfkit.analyzers.join import Joined, join_ranks
from perfkit.analyzers.operators import merge_operators
from perfkit.analyzers.prospects import prospects
from perfkit.analyzers.quality import assess
from perfkit.analyzers.result import (
    SCHEMA_VERSION,
    Analysis,
    OperatorRow,
    Quality,
    Timeline,
    Verdict,
)
from perfkit.analyzers.result_telemetry import CounterRow
from perfkit.analyzers.run_facts import describe_run, describe_world
from perfkit.analyzers.second_opinion import is_typical, replay_graph, second_opinion
from perfkit.analyzers.sentence import verdict_sentence
from perfkit.analyzers.shelf import shelf_for
from perfkit.analyzers.steps import view_run
from perfkit.analyzers.survey import RankSurvey, Surroundings, survey_rank
from perfkit.analyzers.telemetry import node_loads
from perfkit.analyzers.timeline import choose_step, draw_timeline
from perfkit.analyzers.verdict import (
    Decision,
    decide,
    decide_without_trace,
    heed,
    seed_of,
    undetermined,
)
from perfkit.analyzers.withholding import lower, supported
from perfkit.analyzers.workers import map_in_processes
from perfkit.errors import InputError, PerfkitError
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.of_run import host_misfit, nodes_of
from perfkit.roofline.of_run import join_ranks as join_placed
from perfkit.roofline.summary import RunRoofline
from perfkit.roofline.threads import threads_of
from perfkit.trace.model import Issue, RankRecord, RankTrace, Run
from perfkit.version import __version__

Load = Callable[[RankRecord], RankTrace]
Mapper = Callable[
    [Callable[[RankRecord], RankSurvey | PerfkitError], Sequence[RankRecord]],
    Iterable[RankSurvey | PerfkitError],
]

MOST_DRAWN = 64
"""Nobody reads a timeline of a thousand ranks, and no page can hold one."""


def analyze(
    run: Run,
    load: Load,
    *,
    jobs: int = 1,
    on_rank: Callable[[int], None] | None = None,
    ceilings: Ceilings | None = None,
    mapper: Mapper | None = None,
) -> Analysis:
    """Analyse a run.

    load reads one rank's trace; with `jobs` above 1 it runs in other processes and must pickle.
    on_rank is called with each rank as its survey is done. ceilings: measured on the machine of
    the run; without them, or where they are of another device, published peaks stand in. mapper
    surveys the ranks elsewhere, on a cluster for example; it gives the same results in any place.
    Raises InputError if nothing in the run can be analysed.
    """
    if not run.ranks:
        raise InputError("the run holds no rank", hint="did the training start?")
    with shelf_for(len(run.ranks)) as shelf:
        around = Surroundings(
            ceilings=ceilings,
            threads=threads_of(run),
            unfit=host_misfit(ceilings, run),
            nodes=nodes_of(run),
            shelf=shelf,
        )
        survey = partial(_survey_one, load, around)
        outcomes = _outcomes(run, survey, jobs, mapper)
        return _reduced(run, _sorted_out(outcomes, on_rank), around)


def _reduced(
    run: Run,
    surveyed: tuple[dict[int, RankSurvey], dict[int, PerfkitError]],
    around: Surroundings,
) -> Analysis:
    surveys, failures = surveyed
    lines = {record.rank: record.lines for record in run.ranks}
    stepped = any(len(own.windows.step) for own in surveys.values())
    if not stepped and not any(len(own.index) for own in lines.values()):
        _raise_nothing(failures)
    run = _with_issues(run, [*_unreadable(failures), *_without_steps(surveys)])
    surveys = {rank: own for rank, own in surveys.items() if len(own.windows.step)}
    joined = join_ranks(surveys, run.world_size, around.shelf)
    captured = tuple(record.rank for record in run.ranks)
    whole = view_run(lines, captured, joined.steps, _slowest_window_ms(joined))
    roofline = _roofline(run, surveys, around.ceilings)
    return _judged(gather(run, surveys, joined, whole), joined, roofline)


def _judged(evidence: Evidence, joined: Joined, roofline: RunRoofline | None) -> Analysis:
    run, surveys = evidence.run, evidence.surveys
    quality = assess(evidence)
    decision = lower(_decide(run, joined, evidence, quality), quality, evidence.whole.dilation)
    graph = replay_graph(surveys, run.world_size)
    # The path is of a few steps of the window, and the window may not be like the run.
    typical = bool(surveys) and is_typical(graph, joined.steps, joined.charged_ns)
    shown = typical and not evidence.whole.not_representative
    opinion = second_opinion(graph, decision.dominant if shown else None)
    decision = heed(decision, opinion)
    return Analysis(
        schema_version=SCHEMA_VERSION,
        perfkit_version=__version__,
        world=describe_world(run, surveys),
        quality=quality,
        steps=evidence.whole.steps,
        throughput=evidence.whole.throughput,
        budget=evidence.budget,
        verdict=_verdict(decision, evidence),
        clock=clock_rows(joined.clocks, joined.clock_checks),
        collectives=evidence.collectives,
        stragglers=evidence.stragglers,
        findings=supported(find(evidence), quality),
        operators=_operators(surveys),
        timeline=_timeline(surveys, joined),
        run=describe_run(run, surveys),
        roofline=roofline,
        groups=evidence.groups,
        networks=evidence.networks,
        message_sizes=size_rows(evidence.collectives),
        memory=tuple(s.memory for s in surveys.values() if s.memory is not None),
        efficiency=read_efficiency(joined.tables, graph),
        second_opinion=opinion if surveys else None,
        what_if=prospects(graph, seed=seed_of(run.run_id)) if surveys else None,
        telemetry=node_loads(run),
        counters=_counters(surveys),
        pipeline=evidence.pipeline,
    )


def _counters(surveys: Mapping[int, RankSurvey]) -> tuple[CounterRow, ...]:
    return tuple(
        CounterRow(rank=rank, name=found.name, mean=found.mean, samples=found.samples)
        for rank, survey in surveys.items()
        for found in survey.counters
    )


def _operators(surveys: Mapping[int, RankSurvey]) -> tuple[OperatorRow, ...]:
    return merge_operators(
        [s.operators for s in surveys.values()],
        [len(s.windows.step) for s in surveys.values()],
        [int((s.windows.end_ns - s.windows.start_ns).sum()) for s in surveys.values()],
    )


def _roofline(
    run: Run, surveys: Mapping[int, RankSurvey], ceilings: Ceilings | None
) -> RunRoofline | None:
    placed = [s.placed for s in surveys.values() if s.placed is not None]
    if not placed:
        return None
    reasons = list(dict.fromkeys(s.misfit for s in surveys.values() if s.misfit))
    return join_placed(run, placed, None if reasons else ceilings, reasons)


def encode(analysis: Analysis) -> bytes:
    """Write an analysis as JSON; equal analyses give equal bytes."""
    return msgspec.json.encode(analysis) + b"\n"


def decode(data: bytes) -> Analysis:
    """Read an analysis back; raises InputError if it is none, or of another schema version."""
    try:
        return msgspec.json.decode(data, type=Analysis)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"not an analysis of this version of perfkit: {error}", hint="run `perfkit analyze`"
        ) from error


def _outcomes(
    run: Run,
    survey: Callable[[RankRecord], RankSurvey | PerfkitError],
    jobs: int,
    mapper: Mapper | None,
) -> Iterator[tuple[int, RankSurvey | PerfkitError]]:
    """Survey every rank that has a trace; yield each with its outcome, in order."""
    records = [record for record in run.ranks if record.traces]
    outcomes: Iterable[RankSurvey | PerfkitError] = map(survey, records)
    if mapper is not None:
        outcomes = mapper(survey, records)
    elif jobs > 1 and len(records) > 1:
        outcomes = map_in_processes(survey, records, jobs=jobs)
    yield from zip((record.rank for record in records), outcomes, strict=True)


def _sorted_out(
    outcomes: Iterable[tuple[int, RankSurvey | PerfkitError]],
    on_rank: Callable[[int], None] | None,
) -> tuple[dict[int, RankSurvey], dict[int, PerfkitError]]:
    surveys: dict[int, RankSurvey] = {}
    failures: dict[int, PerfkitError] = {}
    for rank, outcome in outcomes:
        if isinstance(outcome, PerfkitError):
            failures[rank] = outcome
        else:
            surveys[rank] = outcome
        if on_rank is not None:
            on_rank(rank)
    return surveys, failures


def _survey_one(load: Load, around: Surroundings, record: RankRecord) -> RankSurvey | PerfkitError:
    """Survey one rank; one unreadable trace must not cost the others their analysis."""
    try:
        return survey_rank(load(record), record.lines, around)
    except PerfkitError as error:
        return error


def _raise_nothing(failures: Mapping[int, PerfkitError]) -> None:
    for error in failures.values():
        raise error
    raise InputError(
        "no rank recorded a whole step",
        hint="the training must reach its first optimizer step, or call perfkit.step()",
    )


def _unreadable(failures: Mapping[int, PerfkitError]) -> Iterator[Issue]:
    for rank, error in failures.items():
        yield Issue(code="TRACE_UNREADABLE", severity="warning", message=str(error), ranks=(rank,))


def _without_steps(surveys: Mapping[int, RankSurvey]) -> Iterator[Issue]:
    """Report ranks that cannot be part of the budget, with what their trace said of itself."""
    for rank, survey in surveys.items():
        if not len(survey.windows.step):
            yield from (replace(issue, ranks=issue.ranks or (rank,)) for issue in survey.issues)
            yield Issue(
                code="NO_WHOLE_STEP",
                severity="warning",
                message="the trace holds no step from start to end: the rank is not in the budget",
                ranks=(rank,),
            )


def _with_issues(run: Run, issues: Sequence[Issue]) -> Run:
    return replace(run, issues=run.issues + tuple(issues))


def _slowest_window_ms(joined: Joined) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if not joined.tables:
        return np.empty(0)
    windows = np.stack([t.sum(axis=1) for t in joined.tables.values()])
    return np.asarray(windows.max(axis=0) / 1e6)


def _decide(run: Run, joined: Joined, evidence: Evidence, quality: Quality) -> Decision:
    if quality.status == "unusable":
        return undetermined("capture_unusable")
    if not evidence.surveys:
        return decide_without_trace(*(evidence.whole.io_shares or (None, None)))
    return decide(
        joined.charged_ns,
        joined.window_ns,
        seed=seed_of(run.run_id),
        shift=whole_run_shift(joined, evidence.whole),
    )


def _verdict(decision: Decision, evidence: Evidence) -> Verdict:
    return Verdict(
        label=decision.label,
        mixed_of=decision.mixed_of,
        tentative=decision.tentative,
        dominant=decision.dominant,
        limiter=decision.limiter,
        margin=decision.margin,
        confidence=decision.confidence,
        reason=decision.reason,
        sentence=verdict_sentence(decision, evidence),
        rollup_after_blame=decision.shares,
        severity=decision.severity,
        blame=evidence.blame,
    )


def _timeline(surveys: Mapping[int, RankSurvey], joined: Joined) -> Timeline | None:
    views = {rank: joined.views[rank] for rank in _drawn(joined)}
    marked = [np.array(sorted(surveys[rank].marks), dtype=np.int64) for rank in views]
    if not marked:
        return None
    common = marked[0]
    for own in marked[1:]:
        common = np.intersect1d(common, own)
    step = choose_step({rank: view.windows for rank, view in joined.views.items()}, common)
    if step is None:
        return None
    marks = {rank: {step: surveys[rank].marks[step]} for rank in views}
    return draw_timeline(step, views, marks, joined.rank_clocks)


def _drawn(joined: Joined) -> list[int]:
    """Return the ranks of the timeline: all, or of many the most blamed and others evenly."""
    ranks = sorted(joined.views)
    if len(ranks) <= MOST_DRAWN:
        return ranks
    by_blame = sorted(joined.charges.by_rank.items(), key=lambda item: -item[1])
    blamed = dict.fromkeys(rank for (rank, _), ns in by_blame if ns > 0)
    late = [rank for rank in blamed if rank in joined.views][: MOST_DRAWN // 2]
    others = [rank for rank in ranks if rank not in late]
    room = MOST_DRAWN - len(late)
    return sorted(late + [others[i * len(others) // room] for i in range(room)])

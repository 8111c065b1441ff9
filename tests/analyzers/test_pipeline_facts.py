"""Pipelines played out event by event: the schedule and the bubble come back from the trace."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.roofline.pipeline import Shape
from perfkit.roofline.schedule_simulation import Pass, orders
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, RankTrace
from tests.builders import Item, StepItem, gloo, host, op, rank_trace, run_of, step

TIMES = {"F": 10.0, "B": 20.0}
SEND_MS = 0.5


def played(
    schedule: str,
    stages: int,
    micro_batches: int,
    *,
    named: bool,
    steps: int = 4,
    send_ms: float = SEND_MS,
) -> list[RankTrace]:
    """CPU ranks that run the schedule: a pass waits for its receive, then sends its result.

    Receives are posted when the stage is ready for them; a transfer takes send_ms from when both
    ends are there. All passes of a stage take 10 ms forward and 20 ms backward.
    """
    shape = Shape(stages=stages, micro_batches=micro_batches)
    order = orders(schedule, shape)
    items: list[list[Item | StepItem]] = [[] for _ in range(stages)]
    length = 0.0
    for k in range(steps):
        begin = k * length
        length = _one_step(order, items, begin, k, named=named, send_ms=send_ms)
    for k in range(steps):
        for own in items:
            own.append(step(k, at_ms=k * length, ms=length))
    return [
        rank_trace(*own, rank=rank, world_size=stages, device_kind="cpu")
        for rank, own in enumerate(items)
    ]


def _one_step(
    order: Sequence[Sequence[Pass]],
    items: list[list[Item | StepItem]],
    begin: float,
    k: int,
    *,
    named: bool,
    send_ms: float,
) -> float:
    """Play one step from `begin`; return its length, with a blocking reduction at its end."""
    last = len(order) - 1
    ends: dict[tuple[int, Pass], float] = {}
    clock = [begin] * len(order)
    place = [0] * len(order)
    while any(p < len(o) for p, o in zip(place, order, strict=True)):
        for s, own in enumerate(order):
            while place[s] < len(own):
                one = own[place[s]]
                source = s - 1 if one.kind == "F" else s + 1
                posted = clock[s]
                if 0 <= source <= last:
                    if (source, one) not in ends:
                        break
                    sent = ends[source, one]
                    done = max(sent, posted) + send_ms
                    _transfer(items, (source, s), (sent, posted, done), k)
                    clock[s] = done
                start = clock[s]
                clock[s] = ends[s, one] = start + TIMES[one.kind]
                items[s].append(op(f"aten::{one.kind}", at_ms=start, ms=TIMES[one.kind]))
                if named:
                    name = {"F": "Forward", "B": "Backward"}[one.kind]
                    items[s].append(
                        host(
                            Kind.ANNOTATION,
                            f"{name} {one.micro_batch}",
                            at_ms=posted,
                            ms=clock[s] - posted,
                        )
                    )
                place[s] += 1
    return max(clock) - begin


def _transfer(
    items: list[list[Item | StepItem]],
    ends: tuple[int, int],
    times: tuple[float, float, float],
    k: int,
) -> None:
    source, target = ends
    sent, posted, done = times
    for rank, start, name in ((source, sent, "send"), (target, posted, "recv")):
        items[rank].append(
            gloo(name, at_ms=start, ms=done - start, source=source, target=target, thread=200)
        )


def analysed(traces: list[RankTrace]) -> Analysis:
    run, load = run_of(*traces)
    return analyze(run, load)


def facts(traces: list[RankTrace]) -> PipelineFacts:
    found = analysed(traces).pipeline
    assert found is not None
    return found


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("schedule", "stages", "micro_batches"),
    [("gpipe", 4, 8), ("1f1b", 4, 8), ("gpipe", 2, 4), ("1f1b", 2, 4), ("1f1b", 3, 6)],
)
def test_the_schedule_comes_back(
    schedule: str, stages: int, micro_batches: int, named: bool
) -> None:
    found = facts(played(schedule, stages, micro_batches, named=named))
    assert found.ranks == tuple(range(stages))
    assert (found.schedule, found.micro_batches) == (schedule, micro_batches)
    assert found.exact
    assert found.source == ("names of passes" if named else "sends and receives")


def test_measured_bubble_stands_beside_the_formulas() -> None:
    """P = 4, m = 8: the bubble is 3/8 of the ideal time and 3/11 of the step."""
    found = facts(played("1f1b", 4, 8, named=True))
    assert found.formula_over_ideal == pytest.approx(3 / 8)
    assert found.formula_over_total == pytest.approx(3 / 11)
    # What a stage waits inside its receives: all bubble but what lies before the step's first
    # receive was posted and after its last pass, plus the transfers' own time.
    assert found.bubble_over_total is not None
    assert 0.5 * 3 / 11 < found.bubble_over_total <= 1.1 * 3 / 11
    assert "4 stages, 1F1B, 8 micro-batches: bubble" in found.sentence


def test_one_micro_batch_looks_the_same_under_all_schedules() -> None:
    found = facts(played("gpipe", 2, 1, named=True))
    assert found.schedule is None
    assert len(found.candidates) > 1 and "several schedules" in found.reason
    assert found.formula_over_total is None


def test_a_pipeline_with_bubbles_is_a_finding() -> None:
    analysis = analysed(played("gpipe", 4, 4, named=True))
    (finding,) = [f for f in analysis.findings if f.id == "pipeline_bubble"]
    assert "GPipe, 4 micro-batches" in finding.evidence


def without_peers(traces: Sequence[RankTrace]) -> list[RankTrace]:
    """Forget who sends to whom, as gloo does."""
    return [
        replace(
            t,
            collectives=replace(
                t.collectives,
                source_rank=np.full_like(t.collectives.source_rank, NONE),
                target_rank=np.full_like(t.collectives.target_rank, NONE),
            ),
        )
        for t in traces
    ]


def test_of_two_ranks_the_peer_is_the_other_one() -> None:
    """Gloo does not record who sends to whom: of two ranks there is only one way."""
    traces = played("1f1b", 2, 4, named=False)
    assert facts(without_peers(traces)) == facts(traces)


def test_a_pipeline_is_replayed_where_peers_are_known() -> None:
    opinion = analysed(played("1f1b", 4, 8, named=True)).second_opinion
    assert opinion is not None and not opinion.refused


def test_a_pipeline_that_cannot_be_replayed_says_why() -> None:
    opinion = analysed(without_peers(played("1f1b", 4, 8, named=True))).second_opinion
    assert opinion is not None and opinion.refused is not None
    assert "sends and receives between its ranks could not be replayed" in opinion.refused
    assert "the capture does not say who sends to whom" in opinion.refused


def with_stages(traces: Sequence[RankTrace]) -> list[RankTrace]:
    """Name the passes as torch's multi-stage schedules do, with their stage."""
    kinds = {"Forward": "F", "Backward": "B"}
    return [
        replace(
            t,
            events=replace(
                t.events,
                names=tuple(
                    f"PP:{t.rank}{kinds[n.split()[0]]}{n.split()[1]}"
                    if n.split()[0] in kinds
                    else n
                    for n in t.events.names
                ),
            ),
        )
        for t in traces
    ]


def test_without_peers_a_bubble_of_more_stages_is_not_told() -> None:
    analysis = analysed(with_stages(without_peers(played("1f1b", 4, 8, named=True))))
    found = analysis.pipeline
    assert found is not None
    assert (found.bubble_ms, found.bubble_over_total, found.bubble_over_ideal) == (None,) * 3
    assert found.formula_over_total == pytest.approx(3 / 11)
    assert "bubble cannot be told" in found.sentence
    assert "pipeline_bubble" not in {f.id for f in analysis.findings}
    assert any("sends and receives" in c.claim for c in analysis.quality.cannot_tell)
    unmatched = analysis.budget.classes["comm_unmatched"]
    assert unmatched is not None and unmatched.ms > 0


def test_without_point_to_point_transfers_there_is_no_pipeline() -> None:
    trace = rank_trace(step(0, at_ms=0, ms=10), op("aten::mm", at_ms=0, ms=9), device_kind="cpu")
    assert analysed([trace]).pipeline is None


def named_by_torch(passes: Sequence[str], chunk_of: Sequence[int]) -> list[RankTrace]:
    """Ranks whose passes have the names of torch's multi-stage schedules, and nothing else."""
    letters = {"F": "F", "B": "I" if "W" in passes[0] else "B", "W": "W"}
    made = []
    for rank, own in enumerate(passes):
        items: list[Item | StepItem] = [step(0, at_ms=0, ms=10.0 * len(own))]
        for n, kind in enumerate(own):
            stage = rank + len(passes) * chunk_of[n % len(chunk_of)]
            name = f"PP:{stage}{letters[kind]}{n}"
            items.append(host(Kind.ANNOTATION, name, at_ms=10.0 * n, ms=10))
            items.append(op(f"aten::{kind}", at_ms=10.0 * n, ms=10))
        made.append(rank_trace(*items, rank=rank, world_size=len(passes), device_kind="cpu"))
    return made


@pytest.mark.parametrize(
    ("schedule", "chunks", "words"),
    [
        ("naive", 1, "one micro-batch after the other"),
        ("gpipe", 1, "GPipe"),
        ("1f1b", 1, "1F1B"),
        ("interleaved", 2, "interleaved 1F1B"),
        ("zb-h1", 1, "zero-bubble (ZB-H1)"),
    ],
)
def test_every_schedule_is_named(schedule: str, chunks: int, words: str) -> None:
    shape = Shape(stages=4, micro_batches=8, chunks=chunks)
    passes = ["".join(p.kind for p in order) for order in orders(schedule, shape)]
    found = facts(named_by_torch(passes, range(chunks)))
    assert (found.schedule, found.micro_batches, found.exact) == (schedule, 8, True)
    assert f"4 stages, {words}, 8 micro-batches" in found.sentence


def test_torchs_interleaved_zero_bubble_is_named_by_its_warm_up() -> None:
    """The passes of two ranks with two chunks and 8 micro-batches, as torch 2.13 ran them."""
    first = "FFFFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWBWBWBW"
    last = "FFFBFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWFBWBWBWW"
    assert [len(first), len(last)] == [48, 48]
    found = facts(named_by_torch([first, last], (0, 1)))
    assert (found.schedule, found.micro_batches, found.chunks) == ("zb-interleaved", 8, 2)
    assert not found.exact and found.formula_over_total is None
    assert "2 stages, interleaved zero-bubble, 8 micro-batches" in found.sentence
    plain = facts(named_by_torch([first.replace("W", ""), last.replace("W", "")], (0, 1)))
    assert plain.schedule != "zb-interleaved"

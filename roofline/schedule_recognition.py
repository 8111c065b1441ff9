"""Which pipeline schedule a job runs, from the order of forward and backward passes per stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfkit.roofline.pipeline import GPIPE, INTERLEAVED, NAIVE, ONE_F_ONE_B, ZB_H1, Shape
from perfkit.roofline.schedule_simulation import orders

ZB_INTERLEAVED = "zb-interleaved"
"""Several chunks a stage, and weight passes that fill gaps in an order of their own: known by its
warm-up alone (torch's ScheduleInterleavedZeroBubble: half the hops of interleaved 1F1B's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The schedules that fit what was seen; exactly one is a recognition.

    `exact`: every stage's order is the schedule's own. Otherwise only the number of forwards
    before the first backward fits, which is what tells the families apart (models.md 6.1).
    """

    schedule: str | None
    candidates: tuple[tuple[str, int], ...]  # (schedule, chunks a stage)
    micro_batches: int | None
    exact: bool
    reason: str


def recognise(seen: Mapping[int, Sequence[str]], stages: int) -> Recognised:
    """Name the schedule. `seen` maps a stage (from 0) to its passes, "F", "B" or "W", in order.

    Stages may be missing. What fits several schedules, or none, is left unnamed with the reason;
    one micro-batch, for example, looks the same under all of them.
    """
    counts = {tuple(passes).count("F") for passes in seen.values()}
    if not seen or len(counts) != 1 or counts == {0}:
        return _unnamed("the stages do not run the same number of forward passes")
    total = counts.pop()
    if any(tuple(passes).count("B") != total for passes in seen.values()):
        return _unnamed("forward and backward passes do not pair up")
    shapes = _shapes(total, stages)
    fits = [(n, s) for n, s in shapes if _same_order(n, s, seen)]
    exact = bool(fits)
    if not exact:
        fits = [(n, s) for n, s in shapes if _same_warm_up(n, s, seen)]
        fits += [(ZB_INTERLEAVED, s) for _, s in shapes if _fills_with_weights(s, seen)]
    candidates = tuple((name, shape.chunks) for name, shape in fits)
    if len(fits) != 1:
        names = ", ".join(name for name, _ in candidates)
        why = f"the order fits several schedules: {names}" if fits else "no known schedule fits"
        return _unnamed(why, candidates)
    name, shape = fits[0]
    return Recognised(
        schedule=name,
        candidates=candidates,
        micro_batches=shape.micro_batches,
        exact=exact,
        reason="same order" if exact else "same number of forwards before the first backward",
    )


def _unnamed(why: str, candidates: tuple[tuple[str, int], ...] = ()) -> Recognised:
    return Recognised(
        schedule=None, candidates=candidates, micro_batches=None, exact=False, reason=why
    )


def _shapes(total: int, stages: int) -> list[tuple[str, Shape]]:
    plain = Shape(stages=stages, micro_batches=total)
    found = [(name, plain) for name in (NAIVE, GPIPE, ONE_F_ONE_B, ZB_H1)]
    for chunks in range(2, total // stages + 1):
        micro_batches, rest = divmod(total, chunks)
        if not rest and micro_batches % stages == 0:
            shape = Shape(stages=stages, micro_batches=micro_batches, chunks=chunks)
            found.append((INTERLEAVED, shape))
    return found


def _same_order(name: str, shape: Shape, seen: Mapping[int, Sequence[str]]) -> bool:
    expected = orders(name, shape)
    return all(
        stage < shape.stages and [t.kind for t in expected[stage]] == list(passes)
        for stage, passes in seen.items()
    )


def _same_warm_up(name: str, shape: Shape, seen: Mapping[int, Sequence[str]]) -> bool:
    expected = orders(name, shape)
    weights = any("W" in tuple(passes) for passes in seen.values())
    if weights != (name == ZB_H1):
        return False
    return all(
        stage < shape.stages
        and [t.kind for t in expected[stage]].index("B") == tuple(passes).index("B")
        for stage, passes in seen.items()
    )


def _fills_with_weights(shape: Shape, seen: Mapping[int, Sequence[str]]) -> bool:
    """Whether weight passes follow a warm-up of (v-1)p + (p-1-s) forwards on stage s."""
    if shape.chunks < 2 or any("W" not in tuple(passes) for passes in seen.values()):
        return False
    total = shape.chunks * shape.micro_batches
    return all(
        min(shape.chunks * shape.stages - stage, total) == tuple(passes).index("B")
        for stage, passes in seen.items()
    )

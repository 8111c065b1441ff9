"""What makes two arms of runs hard to compare: other machines, other work, poor captures."""

from collections.abc import Callable, Iterator, Sequence

from perfkit.analyzers.result import Analysis
from perfkit.units import number

SAME_WORK = 0.05
"""Samples per step may differ by this share before the work itself counts as different."""

_FACTS: tuple[tuple[str, Callable[[Analysis], object]], ...] = (
    ("the world size", lambda a: a.world.size),
    ("the number of nodes", lambda a: a.world.nodes),
    ("the device", lambda a: a.world.device_name or a.world.device_kind),
    ("torch", lambda a: a.run.torch),
    ("the backend", lambda a: a.run.backend),
    ("the model", lambda a: a.run.model),
    ("the set of hosts", lambda a: ", ".join(sorted(a.run.hosts))),
)


def notes(base: Sequence[Analysis], new: Sequence[Analysis]) -> tuple[str, ...]:
    """Say what else differs between the arms, and what is wrong with a capture."""
    return tuple(_notes(base, new))


def _notes(base: Sequence[Analysis], new: Sequence[Analysis]) -> Iterator[str]:
    for what, fact in _FACTS:
        before, after = (sorted({str(fact(run)) for run in runs}) for runs in (base, new))
        if before != after:
            yield (f"{what} differs: {_named(before)} against {_named(after)}")
    yield from _work(base, new)
    for run in (*base, *new):
        if run.quality.status == "unusable":
            yield f"run {run.run.run_id}: its capture is unusable, read no class of time from it"
    if any(run.steps.median_ms is None for run in (*base, *new)):
        yield (
            "some run has no unprofiled step: profiled steps are compared, which the profiler "
            "may slow differently"
        )


def _named(values: Sequence[str]) -> str:
    return " / ".join(value or "not recorded" for value in values)


def _work(base: Sequence[Analysis], new: Sequence[Analysis]) -> Iterator[str]:
    before, after = _samples_per_step(base), _samples_per_step(new)
    if before and after and abs(after / before - 1) > SAME_WORK:
        yield (
            f"a step does other work: {number(before)} samples against {number(after)}; compare "
            "samples per second, not step times"
        )


def _samples_per_step(runs: Sequence[Analysis]) -> float | None:
    found = [
        run.throughput.samples_per_s * run.steps.mean_ms / 1e3
        for run in runs
        if run.throughput.samples_per_s and run.steps.mean_ms
    ]
    return sum(found) / len(found) if len(found) == len(runs) else None

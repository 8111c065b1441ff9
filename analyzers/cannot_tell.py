"""What a capture cannot support, why, and what would let it."""

from collections.abc import Iterator

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import CannotTell
from perfkit.trace.kinds import TimeClass
from perfkit.units import nanoseconds

_NO_RECORDER = {
    TimeClass.INPUT_WAIT: (
        "waiting for input",
        "the trace holds no data loader ranges",
        "capture with `perfkit profile`, or wrap the fetch in perfkit.region('data')",
    ),
    TimeClass.CHECKPOINT: (
        "checkpoint time",
        "the trace holds no checkpoint ranges",
        "capture with `perfkit profile`, or wrap saving in perfkit.region('checkpoint')",
    ),
    TimeClass.HOST_GC: (
        "garbage collection",
        "the trace does not record it",
        "capture with `perfkit profile`",
    ),
    TimeClass.HOST_COMPILE: (
        "compilation",
        "the trace does not record it",
        "capture with `perfkit profile`",
    ),
}


def cannot_tell(evidence: Evidence) -> Iterator[CannotTell]:
    """List the claims that this capture cannot support."""
    if not evidence.surveys:
        yield CannotTell(
            claim="where the time of a step goes",
            why="no rank has a trace of a whole step",
            remedy="rerun with a window that the run reaches: "
            f"perfkit profile --window {reachable_window(evidence)} -- CMD",
        )
        return
    yield from _unrecorded(evidence)
    yield from _other_ranks(evidence)
    yield from _late_ranks(evidence)
    yield from _host_only(evidence)


def reachable_window(evidence: Evidence) -> str:
    """Return a window, as --window takes it, that a run of as many steps as this one reaches."""
    recorded = evidence.whole.steps.recorded
    last = max(2, min(recorded - 2, 14)) if recorded else 14
    first = max(1, min(5, last - 9)) if last > 9 else 1
    return f"{first}:{last}"


def _unrecorded(evidence: Evidence) -> Iterator[CannotTell]:
    for time_class, (claim, why, remedy) in _NO_RECORDER.items():
        if evidence.budget.classes.get(time_class.key) is None:
            yield CannotTell(claim=claim, why=why, remedy=remedy)


def _other_ranks(evidence: Evidence) -> Iterator[CannotTell]:
    absent = evidence.run.world_size - len(evidence.surveys)
    if absent > 0:
        yield CannotTell(
            claim="how much of communication is waiting for a late rank, and which rank is late",
            why=f"{absent} of {evidence.run.world_size} ranks have no trace here",
            remedy="give perfkit the traces of all ranks, or capture with `perfkit profile`",
        )
    elif evidence.pipeline is not None and evidence.pipeline.bubble_ms is None:
        yield CannotTell(
            claim="how much of sends and receives is waiting for another stage",
            why="gloo does not record who sends to whom, and there are more than two ranks",
            remedy="run the stages on NCCL, whose records name both ends, or profile two stages",
        )
    elif evidence.matched.unmatched:
        yield CannotTell(
            claim=f"wait against transfer of {evidence.matched.unmatched} collective calls",
            why="they could not be matched across ranks",
            remedy="capture with `perfkit profile`, which records sequence numbers",
        )


def _late_ranks(evidence: Evidence) -> Iterator[CannotTell]:
    if evidence.unsure_late:
        residual = max(c.residual_ns or 0 for c in evidence.clocks)
        yield CannotTell(
            claim="which rank is late",
            why="ranks differ by no more than the ends of their collectives do "
            f"({nanoseconds(residual)})",
            remedy="profile more steps on a quieter machine: perfkit profile --window 5:34 -- CMD",
        )


def _host_only(evidence: Evidence) -> Iterator[CannotTell]:
    if evidence.on_device:
        return
    yield CannotTell(
        claim="launch latency, copies to a device and device dependencies",
        why="this run has no accelerator",
        remedy="profile on the accelerator",
    )

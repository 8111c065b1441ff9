"""Another pipeline schedule, or another number of micro-batches of the same batch.

The bubble of a schedule is a share of the computation by its published formula (roofline/pipeline:
(p - 1) / m for GPipe and 1F1B, over v chunks when interleaved). Only that part of the measured
bubble changes; what the run had above the formula (unequal stages, transfers) stays.
"""

from dataclasses import replace

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result_pipeline import PipelineFacts
from perfkit.analyzers.whatif import Change, Setting
from perfkit.roofline.pipeline import (
    GPIPE,
    INTERLEAVED,
    NAIVE,
    ONE_F_ONE_B,
    PassTimes,
    Shape,
    bubble,
)

KNOWN = (NAIVE, GPIPE, ONE_F_ONE_B, INTERLEAVED)
_EQUAL = PassTimes(forward_s=1.0, backward_s=2.0)  # their ratio cancels in these formulas


def pipeline_of(
    facts: PipelineFacts | None,
    *,
    schedule: str | None = None,
    micro_batches: int | None = None,
    chunks: int | None = None,
) -> Change:
    """The same batch under another schedule and in another number of micro-batches."""

    def edit(setting: Setting) -> Setting | Refusal:
        shift = _shift_ns(facts, schedule, micro_batches, chunks)
        if isinstance(shift, Refusal):
            return shift
        return replace(setting, shift_ns=setting.shift_ns + shift)

    words = [schedule + (f" in {chunks} chunks" if chunks else "")] if schedule else []
    options = [f"--schedule {schedule}" + (f":{chunks}" if chunks else "")] if schedule else []
    if micro_batches:
        words.append(f"{micro_batches} micro-batches")
        options.append(f"--micro-batches {micro_batches}")
    return Change(
        name=", ".join(words),
        option=" ".join(options),
        assumptions=(
            "the schedule's own bubble follows its published formula (equal stages, free "
            "transfers); what the run had above it stays",
            "the batch is the same; a micro-batch costs nothing but its share of the computation "
            "(in the one trial so far, 2 to 8 over gloo, the step was 17 % longer than predicted)",
            "memory suffices: in-flight micro-batches differ between schedules",
        ),
        apply=edit,
        recipe="pipeline-schedule",
    )


def _shift_ns(
    facts: PipelineFacts | None, schedule: str | None, micro_batches: int | None, chunks: int | None
) -> float | Refusal:
    """Return by how much the step becomes longer, in nanoseconds."""
    if facts is None:
        return Refusal(reason="the run shows no pipeline")
    if facts.schedule not in KNOWN or not facts.micro_batches:
        return Refusal(reason=f"the schedule is not known: {facts.reason}")
    if facts.bubble_ms is None or not facts.bubble_over_ideal:
        return Refusal(reason="the bubble could not be measured: sends and receives are unmatched")
    then = schedule or facts.schedule
    many = micro_batches or facts.micro_batches
    parts = (chunks or facts.chunks or 1) if then == INTERLEAVED else 1
    try:
        shares = [
            bubble(name, Shape(stages=facts.stages, micro_batches=m, chunks=v), _EQUAL).over_ideal
            for name, m, v in (
                (facts.schedule, facts.micro_batches, facts.chunks or 1),
                (then, many, parts),
            )
        ]
    except ValueError as error:
        return Refusal(reason=str(error))
    ideal_ms = facts.bubble_ms / facts.bubble_over_ideal
    return 1e6 * ideal_ms * (shares[1] - shares[0])

"""Gives the steps of a program's own trace the numbers that the step lines have."""

from dataclasses import replace

import numpy as np

from perfkit.trace.model import NONE, RankTrace, StepLines


def renumbered(trace: RankTrace, lines: StepLines) -> RankTrace:
    """Return the trace with each step numbered as the step line in which its middle lies.

    Where two steps lie in one line, or a step in none, the two count different things: then no step
    is whole, so that nothing is told of steps that do not fit.
    """
    steps = trace.steps
    middle = (steps.start_ns + steps.end_ns) // 2
    line = np.searchsorted(lines.start_ns, middle, side="right") - 1
    inside = line >= 0
    inside[inside] = middle[inside] < lines.end_ns[line[inside]]
    index = np.where(inside, lines.index[np.maximum(line, 0)] if len(lines.index) else NONE, NONE)
    whole = index[steps.complete]
    if (whole == NONE).any() or len(np.unique(whole)) < len(whole):
        nothing = np.zeros_like(steps.complete)
        return replace(trace, steps=replace(steps, complete=nothing))
    numbers = dict(zip(steps.index.tolist(), index.tolist(), strict=True))
    before = trace.events.step.tolist()
    events = np.array([numbers.get(step, NONE) for step in before], trace.events.step.dtype)
    return replace(
        trace,
        events=replace(trace.events, step=events),
        steps=replace(steps, index=index.astype(steps.index.dtype)),
    )
